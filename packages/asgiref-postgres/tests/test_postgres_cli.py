"""The command line as an operator meets it: exit codes, and sentences on stderr."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from real_postgres import RealPostgres, free_port

from asgiref.postgres import Database, migrate, send

SUPPORT = Path(__file__).parent / "support"


def run(*arguments: str, url: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "asgiref.postgres", *arguments],
        cwd=SUPPORT,
        env=os.environ | {"ASGIREF_POSTGRES_DATABASE": url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def execute(url: str, *queries: str) -> Any:
    async def body() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for query in queries[:-1]:
                await connection.execute(query)
            return await connection.fetch(queries[-1])
        finally:
            await connection.close()

    return asyncio.run(body())


def test_a_missing_schema_is_named_with_the_command_that_creates_it(server: RealPostgres) -> None:
    done = run("worker", "postgres_apps:echo", "--schema", "absent", url=server.url)

    assert done.returncode == 1
    assert "no schema 'absent'" in done.stderr
    assert "migrate --schema absent" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://postgres@127.0.0.1:{port}/absent", 'database "absent" does not exist'),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", 'role "nobody" does not exist'),
        ("mysql://127.0.0.1/x", "The database cannot be used"),
    ],
)
def test_a_wrong_url_ends_a_worker_with_a_sentence(
    server: RealPostgres, url: str, sentence: str
) -> None:
    done = run("worker", "postgres_apps:echo", url=url.format(port=server.port))

    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_check_fails_when_no_server_answers() -> None:
    done = run("check", url=f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")

    assert done.returncode == 1
    assert done.stderr.startswith("asgiref.postgres: The database cannot be used: ")


def test_an_application_that_cannot_be_imported_is_shown_with_its_traceback(database: str) -> None:
    done = run("worker", "broken_app:application", url=database)

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "broken_app.py" in done.stderr
    assert "'broken_app:application' cannot be imported" in done.stderr


def test_an_older_or_newer_schema_is_refused(database: str) -> None:
    execute(database, "UPDATE asgiref.settings SET version = 99", "SELECT 1")

    assert "has version 99" in run("worker", "postgres_apps:echo", url=database).stderr
    assert "newer than this release" in run("migrate", url=database).stderr


def test_migrate_may_run_again(database: str) -> None:
    done = run("migrate", url=database)

    assert done.returncode == 0
    assert "version 1 (before: 1)" in done.stdout


def test_each_role_has_the_rights_that_it_needs_and_no_more(
    server: RealPostgres, database: str
) -> None:
    roles = "DROP ROLE IF EXISTS worker_role; DROP ROLE IF EXISTS sender_role;"
    create = "CREATE ROLE worker_role LOGIN; CREATE ROLE sender_role LOGIN;"
    execute(database, roles + create, "SELECT 1")
    worker = database.replace("postgres@", "worker_role@")
    sender = database.replace("postgres@", "sender_role@")

    refused = run("check", url=worker)
    assert refused.returncode == 1
    assert "migrate --schema asgiref --grant ROLE" in refused.stderr
    granted = run("migrate", "--grant", "worker_role", "--grant-send", "sender_role", url=database)
    assert granted.returncode == 0, granted.stderr
    allowed = run("check", url=worker)
    assert allowed.returncode == 0, allowed.stderr
    assert asyncio.run(send("ada", {"type": "x"}, database=sender)) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(sender, "SELECT * FROM asgiref.messages")
    execute(database, "DROP SCHEMA asgiref CASCADE", roles, "SELECT 1")


def test_dead_letters_are_listed_shown_requeued_and_dropped(database: str) -> None:
    execute(
        database,
        "INSERT INTO asgiref.dead_letters SELECT n, 1, 'ada', '{\"type\": \"x\"}', 5, 'it failed'"
        " FROM generate_series(1, 3) n",
        "SELECT 1",
    )

    listed = run("dead-letters", "list", url=database)
    assert listed.stdout.count("it failed") == 3
    assert 'message: {"type": "x"}' in run("dead-letters", "show", "1", url=database).stdout
    assert run("dead-letters", "requeue", "1", "2", url=database).returncode == 0
    assert run("dead-letters", "drop", "3", url=database).returncode == 0
    missing = run("dead-letters", "drop", "3", url=database)
    assert missing.returncode == 1
    assert "1 of these ids" in missing.stderr
    rows = execute(database, "SELECT redelivered FROM asgiref.messages")
    assert [row[0] for row in rows] == [True, True]


def test_status_fits_a_screen(database: str) -> None:
    asyncio.run(send("ada", {"type": "x"}, database=database))

    done = run("status", url=database)

    assert done.returncode == 0
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "(no gateway)" in done.stdout
    assert "0 worker(s), 0 dead letter(s)" in done.stdout


def test_two_schemas_of_one_database_do_not_meet(database: str) -> None:
    asyncio.run(migrate(Database(database, "other_chat"), partitions=4))

    asyncio.run(send("ada", {"type": "x"}, database=database, schema="other_chat"))

    assert execute(database, "SELECT count(*) FROM asgiref.messages")[0][0] == 0
    assert execute(database, "SELECT count(*) FROM other_chat.messages")[0][0] == 1
    execute(database, "DROP SCHEMA other_chat CASCADE", "SELECT 1")
