"""asgiref.postgres sends from Django, in the view's own transaction, to a real PostgreSQL."""

import json
from pathlib import Path

from environments import Environment
from own_postgres import own_postgres

PROJECT = Path(__file__).parent / "projects" / "django_postgres.py"


def test_a_django_view_sends_if_and_only_if_its_transaction_is_committed(
    fresh_environment: Environment,
) -> None:
    environment = fresh_environment
    environment.pip("install", "asyncpg>=0.30")
    environment.install_ours("asgiref", "asgiref-postgres")
    environment.pip("install", "Django>=5.2", "psycopg[binary]>=3.1")
    environment.pip("check")
    with own_postgres() as server:
        environment.run("-I", "-m", "asgiref.postgres", "migrate", "--database", server.url)

        assert json.loads(environment.run("-I", PROJECT, server.url)) == ["kept"]
