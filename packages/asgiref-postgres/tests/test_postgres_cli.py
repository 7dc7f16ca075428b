"""The command line as an operator sees it: exit codes, and messages on stderr."""

import asyncio
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from real_postgres import RealPostgres, free_port

from asgiref.postgres import Database, Limits, PostgresWorker, migrate, send

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
        ("postgresql://[::1/x", "The database cannot be used: Invalid IPv6 URL"),
    ],
)
def test_a_wrong_url_ends_a_worker_with_a_one_line_error(
    server: RealPostgres, url: str, sentence: str
) -> None:
    done = run("worker", "postgres_apps:echo", url=url.format(port=server.port))

    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_check_fails_when_no_server_answers_and_names_the_server_without_the_password() -> None:
    port = free_port()
    done = run("check", url=f"postgresql://postgres:secret@127.0.0.1:{port}/postgres")

    assert done.returncode == 1
    assert f"(server 127.0.0.1:{port})" in done.stderr
    assert "secret" not in done.stderr
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


def test_migrate_refuses_to_change_a_schemas_fixed_settings(database: str) -> None:
    same = run("migrate", "--partitions", "16", "--max-size", "1048576", url=database)
    partitions = run("migrate", "--partitions", "128", url=database)
    size = run("migrate", "--max-size", "2000", url=database)

    assert same.returncode == 0, same.stderr
    assert (partitions.returncode, size.returncode) == (1, 1)
    assert "has 16 partitions, and this cannot be changed to 128" in partitions.stderr
    assert "has a maximum size of 1048576, and this cannot be changed to 2000" in size.stderr
    assert "16 partitions" in run("check", url=database).stdout


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
    assert asyncio.run(send("ada", {"type": "x"}, database=sender)) > 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(sender, "SELECT * FROM asgiref.messages")
    execute(database, "DROP SCHEMA asgiref CASCADE", roles, "SELECT 1")


def test_migrate_changes_no_rights_on_other_objects_in_the_same_schema(database: str) -> None:
    execute(
        database,
        "DROP SCHEMA IF EXISTS shared CASCADE; DROP ROLE IF EXISTS poor;"
        "CREATE SCHEMA shared CREATE TABLE salaries (id integer); CREATE ROLE poor;"
        "CREATE FUNCTION shared.helper() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "SELECT 1",
    )

    done = run("migrate", "--schema", "shared", "--grant", "poor", url=database)

    assert done.returncode == 0, done.stderr
    (rights,) = execute(
        database,
        "SELECT has_table_privilege('poor', 'shared.salaries', 'SELECT'),"
        " has_function_privilege('poor', 'shared.helper()', 'EXECUTE'),"
        " has_table_privilege('poor', 'shared.settings', 'UPDATE'),"
        " has_table_privilege('poor', 'shared.messages', 'DELETE')",
    )
    assert tuple(rights) == (False, True, False, True)
    execute(database, "DROP SCHEMA shared CASCADE; DROP ROLE poor", "SELECT 1")


def test_an_abbreviated_option_is_refused(database: str) -> None:
    done = run("worker", "postgres_apps:echo", "--reloa", url=database)

    assert done.returncode == 2
    assert "unrecognized arguments: --reloa" in done.stderr


def test_dead_letters_are_listed_shown_requeued_and_dropped(database: str) -> None:
    execute(
        database,
        "INSERT INTO asgiref.dead_letters SELECT n, 'ada', '{\"type\": \"x\"}', 5, 'it failed'"
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
    assert missing.stderr == "asgiref.postgres: These ids are not dead letters: 3.\n"
    for arguments in (["list", "3"], ["show"], ["drop"], ["requeue"]):
        refused = run("dead-letters", *arguments, url=database)
        assert refused.returncode == 1
        assert "list takes no ids; show, drop and requeue need some" in refused.stderr
    assert run("dead-letters", "list", url=database).stdout.count("\n") == 0
    rows = execute(database, "SELECT redelivered FROM asgiref.messages")
    assert [row[0] for row in rows] == [True, True]


def test_status_fits_a_screen(database: str) -> None:
    asyncio.run(send("ada", {"type": "x"}, database=database))

    done = run("status", url=database)

    assert done.returncode == 0
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "(no gateway)" in done.stdout
    assert "0 worker(s), 0 dead letter(s)" in done.stdout


def test_two_schemas_in_one_database_do_not_interfere(database: str) -> None:
    asyncio.run(migrate(Database(database, "other_chat"), partitions=4))

    asyncio.run(send("ada", {"type": "x"}, database=database, schema="other_chat"))

    assert execute(database, "SELECT count(*) FROM asgiref.messages")[0][0] == 0
    assert execute(database, "SELECT count(*) FROM other_chat.messages")[0][0] == 1
    execute(database, "DROP SCHEMA other_chat CASCADE", "SELECT 1")


def test_a_server_that_is_too_old_is_refused_with_both_versions() -> None:
    with subprocess.Popen(
        [sys.executable, SUPPORT / "old_postgres.py"], stdout=subprocess.PIPE, text=True
    ) as old:
        assert old.stdout is not None
        url = f"postgresql://postgres@127.0.0.1:{int(old.stdout.readline())}/postgres"
        for command in (["worker", "postgres_apps:echo"], ["check"], ["migrate"]):
            done = run(*command, url=url)
            assert done.returncode == 1
            assert done.stderr == (
                "asgiref.postgres: The server is PostgreSQL 13; asgiref.postgres needs 14 or"
                " newer.\n"
            )
        old.kill()


def test_every_option_of_the_classes_is_on_the_command_line(database: str) -> None:
    text = run("worker", "--help", url=database).stdout
    arguments = {
        *inspect.signature(PostgresWorker).parameters,
        *inspect.signature(Limits).parameters,
    }
    arguments |= {*inspect.signature(Database).parameters, "reload", "log-level", "log-config"}
    # The URL has the password, or names a password file; each limit is a separate option.
    arguments -= {"application", "database", "limits", "url", "password"}

    assert [name for name in arguments if f"--{name.replace('_', '-')}" not in text] == []
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_wrong_option_is_refused_with_a_one_line_error(database: str) -> None:
    for options, sentence in (
        (["--messages", "0"], "The limit messages must be at least 1, not 0."),
        (["--max-applications", "0"], "max_applications must be at least 1, not 0."),
        (["--timeout", "0.5"], "The timeout must be between 1 and 86400 seconds, not 0.5."),
        (["--timeout", "90000"], "The timeout must be between 1 and 86400 seconds, not 90000.0."),
        (["--health-port", "0"], "The health port must be between 1 and 65535, not 0."),
        (["--health-port", "70000"], "The health port must be between 1 and 65535, not 70000."),
        (["--health-address", "::1"], "The health address '::1' needs a health port."),
        (["--schema", "Chat"], "The schema name 'Chat' cannot be used"),
        (["--log-config", "absent.json"], "The log configuration 'absent.json' cannot be used"),
    ):
        done = run("worker", "postgres_apps:echo", *options, url=database)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("worker", "--shutdown-timeout=-1"),
        ("worker", "--idle-timeout=nan"),
        ("worker", "--retry-delay=inf"),
        ("worker", "--messages=some"),
        ("worker", "--size=-5"),
        ("status", "--timeout=1e300"),
        ("dead-letters", "9223372036854775808"),
    ],
)
def test_a_number_outside_its_range_is_refused_with_the_option_and_the_range(
    command: str, option: str
) -> None:
    required = {"worker": ["bot:shout"], "dead-letters": ["show"], "status": []}
    done = run(command, *required[command], option, url="postgresql://localhost/x")

    name, _, value = option.rpartition("=")
    assert done.returncode == 2
    assert f"argument {name or 'ID'}: '{value}' is out of range: " in done.stderr
    assert "number between 0 and " in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--partitions", "0", "There must be between 1 and 4096 partitions, not 0."),
        ("--max-size", "0", "The max_size must be between 1 and 536870912 bytes, not 0."),
        ("--max-size", "536870913", "between 1 and 536870912 bytes, not 536870913."),
    ],
)
def test_migrate_refuses_a_size_that_no_schema_can_have(
    server: RealPostgres, option: str, value: str, sentence: str
) -> None:
    done = run("migrate", "--schema", "sized", option, value, url=server.url)

    assert done.returncode == 1
    assert sentence in done.stderr


def test_a_log_configuration_is_used(database: str, tmp_path: Path) -> None:
    path = tmp_path / "logging.json"
    path.write_text(
        '{"version": 1, "disable_existing_loggers": false,'
        ' "formatters": {"own": {"format": "OWN %(message)s"}},'
        ' "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "own"}},'
        ' "root": {"level": "INFO", "handlers": ["stderr"]}}'
    )
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    with subprocess.Popen(
        [sys.executable, "-m", "asgiref.postgres", "worker", "postgres_apps:echo",
         "--log-config", str(path), "--database", url],
        cwd=SUPPORT, stderr=subprocess.PIPE, text=True,
    ) as worker:  # fmt: skip
        assert worker.stderr is not None
        assert worker.stderr.readline().startswith("OWN The database is unavailable")
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.thorough
def test_a_worker_starts_again_when_a_file_changes_and_ends_with_its_parent(
    database: str, tmp_path: Path
) -> None:
    module = tmp_path / "reloaded.py"
    body = "async def application(scope, receive, send): await receive()\n"
    module.write_text("print('first', flush=True)\n" + body)
    with subprocess.Popen(
        [sys.executable, "-m", "asgiref.postgres", "worker", "reloaded:application", "--reload",
         "--database", database],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "first\n"
        module.write_text("print('second', flush=True)\n" + body + "# longer\n")
        assert parent.stdout.readline() == "second\n"
        parent.terminate()
        assert parent.stdout.read() == ""  # the worker has ended too
        assert parent.wait() == 0


def test_a_migration_that_fails_changes_nothing(server: RealPostgres, database: str) -> None:
    done = run("migrate", "--schema", "half", "--grant", "no_such_role", url=database)

    assert done.returncode == 1
    assert 'Create the missing object first: role "no_such_role" does not exist' in done.stderr
    assert execute(database, "SELECT to_regnamespace('half') IS NULL")[0][0]


def test_a_role_without_the_right_to_create_a_schema_is_told_so(database: str) -> None:
    execute(database, "DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN", "SELECT 1")

    done = run("migrate", "--schema", "other", url=database.replace("postgres@", "poor@"))

    assert done.returncode == 1
    assert "The role 'poor' cannot create the schema 'other'." in done.stderr
    assert "`GRANT CREATE ON DATABASE postgres TO poor`" in done.stderr
    assert "--grant" not in done.stderr
    execute(database, "DROP ROLE poor", "SELECT 1")


def test_a_role_that_does_not_own_the_schema_is_told_who_can_migrate_it(database: str) -> None:
    execute(database, "DROP ROLE IF EXISTS other", "CREATE ROLE other LOGIN", "SELECT 1")
    assert run("migrate", "--grant", "other", url=database).returncode == 0

    done = run("migrate", url=database.replace("postgres@", "other@"))

    assert done.returncode == 1
    assert done.stderr == (
        "asgiref.postgres: Only the owner, the role 'postgres', can migrate the schema 'asgiref';"
        " the role 'other' cannot. Run `migrate` with the owner's URL.\n"
    )
    execute(database, "DROP SCHEMA asgiref CASCADE", "DROP ROLE other", "SELECT 1")


@pytest.mark.parametrize("kind", ["passfile", "service"])
def test_credentials_come_from_a_file(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    parts = urlsplit(database)
    path = tmp_path / kind
    if kind == "passfile":
        path.write_text(f"{parts.hostname}:{parts.port}:postgres:postgres:secret\n")
        url = f"{database}?passfile={path}"
    else:
        path.write_text(
            f"[chat]\nhost={parts.hostname}\nport={parts.port}\nuser=postgres\ndbname=postgres\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(path))
        url = "postgresql://?service=chat"
    path.chmod(0o600)

    done = run("check", url=url)

    assert done.returncode == 0, done.stderr


def test_the_first_server_that_accepts_writes_is_used(server: RealPostgres, database: str) -> None:
    port = urlsplit(database).port
    url = f"postgresql://postgres@127.0.0.1:{free_port()},127.0.0.1:{port}/postgres"

    assert run("check", url=url + "?target_session_attrs=read-write").returncode == 0


def test_metrics_reach_opentelemetry_where_it_is_installed(database: str) -> None:
    pytest.importorskip("opentelemetry.sdk")
    program = """
import asyncio, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from asgiref.postgres import PostgresWorker
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
async def application(scope, receive, send): await receive()
async def main():
    worker = PostgresWorker(application, sys.argv[1], name="worker one")
    working = asyncio.ensure_future(worker.arun())
    while not worker.partitions:
        await asyncio.sleep(0.02)
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    print(metric.name, point.value >= 0, dict(point.attributes))
    worker.stop()
    await working
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, database], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    for name in ("transactions", "acknowledged", "dead", "held", "outbox"):
        assert f"asgiref.postgres.{name} True {{'process': 'worker one'}}" in done.stdout
