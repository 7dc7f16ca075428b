"""The command line: ``python -m asgiref.postgres COMMAND``.

Exit codes: 0 when it ended as it was asked to; 1 when it cannot work, with the reason on stderr; 2
for a wrong command line; 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import logging.config
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import __version__, _admin, _schema
from ._codec import MAX_SIZE, CannotStart, PostgresServerError
from ._database import Database, explained, migrate
from ._delivery import Limits
from ._worker import PostgresWorker

#: Names the database where no ``--database`` is given.
VARIABLE = "ASGIREF_POSTGRES_DATABASE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _set_up_logging(options)
        return options.command(options) or 0
    except PostgresServerError as error:
        if options.log_level == "DEBUG" and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(f"asgiref.postgres: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _set_up_logging(options: argparse.Namespace) -> None:
    if options.log_config is None:
        text = "%(asctime)s %(levelname)s %(message)s"
        logging.basicConfig(level=options.log_level, format=text)
        return
    try:
        if options.log_config.endswith(".json"):
            logging.config.dictConfig(json.loads(Path(options.log_config).read_text()))
        else:
            logging.config.fileConfig(options.log_config, disable_existing_loggers=False)
    except Exception as error:
        raise CannotStart(
            f"The log configuration {options.log_config!r} cannot be used: {error}."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asgiref.postgres",
        description="Workers of a gateway, on PostgreSQL. Start with migrate.",
    )
    parser.add_argument("--version", action="version", version=f"asgiref-postgres {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = _common()
    _add_migrate(
        commands.add_parser("migrate", parents=[common], help="create or upgrade the schema")
    )
    _add_worker(commands.add_parser("worker", parents=[common], help="run an application's scopes"))
    status = commands.add_parser("status", parents=[common], help="show who owns what")
    status.add_argument("--json", action="store_true", help="print everything as JSON")
    status.set_defaults(command=_status)
    check = commands.add_parser("check", parents=[common], help="check a setup, for health probes")
    check.set_defaults(command=_check)
    dead = commands.add_parser("dead-letters", help="list, show, requeue or drop dead letters")
    _add_dead_letters(dead.add_subparsers(required=True, metavar="ACTION"), common)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--database",
        default=os.environ.get(VARIABLE),
        metavar="URL",
        help=f"where PostgreSQL is (default: what {VARIABLE} says, else PGHOST and the like)",
    )
    common.add_argument(
        "--schema", default="asgiref", help="the schema of the tables (default: %(default)s)"
    )
    common.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="after so long a frozen process or vanished host loses its partitions "
        "(default: %(default)s)",
    )
    common.add_argument(
        "--log-level",
        default="INFO",
        type=_log_level,
        metavar="LEVEL",
        help="the lowest level that is logged (default: %(default)s)",
    )
    common.add_argument(
        "--log-config",
        metavar="FILE",
        help="JSON for dictConfig, or the format of fileConfig (default: the log level alone)",
    )
    return common


def _log_level(text: str) -> str:
    if text.upper() not in logging.getLevelNamesMapping():
        raise argparse.ArgumentTypeError(f"{text!r} is not a log level")
    return text.upper()


def _database(options: argparse.Namespace) -> Database:
    return Database(options.database, options.schema, timeout=options.timeout)


# migrate


def _add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--partitions",
        type=int,
        default=64,
        metavar="PARTITIONS",
        help="at least as many as there will ever be workers; cannot be changed later "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-size",
        type=int,
        default=MAX_SIZE,
        metavar="BYTES",
        help="the maximum size of a message (default: %(default)s)",
    )
    parser.add_argument(
        "--grant",
        metavar="ROLE",
        help="also give a role the rights of a worker or gateway (default: no role)",
    )
    parser.add_argument(
        "--grant-send", metavar="ROLE", help="also give a role the right to send (default: no role)"
    )
    parser.set_defaults(command=_migrate)


def _migrate(options: argparse.Namespace) -> None:
    database = _database(options)
    if not 1 <= options.partitions <= 4096:
        raise CannotStart(f"--partitions must be between 1 and 4096, not {options.partitions}.")

    async def run() -> int:
        try:
            before = await migrate(
                database, partitions=options.partitions, max_size=options.max_size
            )
            connection = await database.connect()
            try:
                for role, sender in ((options.grant, False), (options.grant_send, True)):
                    if role is not None:
                        await connection.execute(
                            _schema.grants(options.schema, role, sender=sender)
                        )
            finally:
                await connection.close()
        except Exception as error:
            raise explained(error, database) from error
        return before

    before = asyncio.run(run())
    print(f"The schema {options.schema!r} has version {_schema.VERSION} (before: {before}).")


# worker


def _add_worker(parser: argparse.ArgumentParser) -> None:
    def add(name: str, kind: type, default: Any, unit: str, text: str) -> None:
        shown = "no limit" if default is None else "%(default)s"
        parser.add_argument(
            name, type=kind, default=default, metavar=unit, help=f"{text} (default: {shown})"
        )

    limits = Limits()
    parser.add_argument("application", metavar="MODULE:APPLICATION", help="an ASGI application")
    parser.add_argument("--name", help="the name in the status (default: host and process id)")
    parser.add_argument(
        "--codec",
        choices=("json", "msgpack"),
        default="json",
        help="how events are encoded; both are always read (default: %(default)s)",
    )
    add("--messages", int, limits.messages, "MESSAGES", "at most so many messages are read ahead")
    add("--size", int, limits.size, "BYTES", "and so many bytes")
    add(
        "--scope-messages",
        int,
        limits.scope_messages,
        "MESSAGES",
        "of these at most so many of a scope",
    )
    add("--scope-size", int, limits.scope_size, "BYTES", "and so many bytes")
    add("--attempts", int, limits.attempts, "TIMES", "so many failures make a dead letter")
    add("--retry-delay", float, limits.retry_delay, "SECONDS", "before the second; then doubled")
    add("--max-applications", int, 10_000, "INSTANCES", "one more instance evicts an idle one")
    add("--idle-timeout", float, None, "SECONDS", "cancel an instance without messages")
    add("--shutdown-timeout", float, 10.0, "SECONDS", "for messages in hand at the end")
    parser.add_argument(
        "--health-port",
        type=int,
        metavar="PORT",
        help="answer HTTP requests there: 200 while connected, else 503 (default: do not)",
    )
    parser.add_argument(
        "--reload", action="store_true", help="restart when a Python file here changes"
    )
    parser.set_defaults(command=_worker)


def _worker(options: argparse.Namespace) -> int | None:
    if options.reload:
        return _run_reloading()
    application = load(options.application)
    limits = Limits(
        messages=options.messages,
        size=options.size,
        scope_messages=options.scope_messages,
        scope_size=options.scope_size,
        attempts=options.attempts,
        retry_delay=options.retry_delay,
    )
    worker = PostgresWorker(
        application,
        _database(options),
        limits=limits,
        max_applications=options.max_applications,
        idle_timeout=options.idle_timeout,
        shutdown_timeout=options.shutdown_timeout,
        codec=options.codec,
        name=options.name,
    )
    worker.run(health_port=options.health_port)
    return None


def load(name: str) -> Any:
    """Return the application that ``module:attribute`` names.

    Raises:
        CannotStart: if there is none; an exception of the module is printed with its traceback.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise CannotStart(f"Name the application as MODULE:APPLICATION, not {name!r}.")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        traceback.print_exception(error)
        raise CannotStart(f"The application {name!r} cannot be imported; see above.") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotStart(f"The module {module_name!r} has no {path!r}.") from None
    if not callable(found):
        raise CannotStart(f"{name!r} is not an ASGI application, but {found!r}.")
    return found


def _run_reloading() -> int:
    """Run the same command without ``--reload``, again whenever a file changes."""
    command = [sys.executable, "-m", "asgiref.postgres"]
    command += [each for each in sys.argv[1:] if each != "--reload"]
    while True:
        seen = _modified()
        process = subprocess.Popen(command)
        try:
            while _modified() == seen:
                time.sleep(0.5)
        finally:
            process.terminate()
            process.wait()


def _modified() -> dict[Path, float]:
    found: dict[Path, float] = {}
    for path in Path().rglob("*.py"):
        with contextlib.suppress(OSError):
            found[path] = path.stat().st_mtime
    return found


# status, check, dead-letters


def _status(options: argparse.Namespace) -> None:
    found = asyncio.run(_admin.status(_database(options)))
    print(_admin.as_json(found) if options.json else _admin.as_table(found))


def _check(options: argparse.Namespace) -> None:
    for line in asyncio.run(_admin.check(_database(options))):
        print(f"ok: {line}")


def _add_dead_letters(actions: Any, common: argparse.ArgumentParser) -> None:
    def add(name: str, command: Callable[[argparse.Namespace], int | None], text: str) -> Any:
        parser = actions.add_parser(name, parents=[common], help=text)
        parser.set_defaults(command=command)
        return parser

    listing = add("list", _list_dead, "one line for each, the latest first")
    listing.add_argument(
        "--limit", type=int, default=100, metavar="MESSAGES", help="at most so many (default: 100)"
    )
    for name, command, text in (
        ("show", _show_dead, "everything about some"),
        ("requeue", _requeue_dead, "let the application handle some again"),
        ("drop", _drop_dead, "delete some"),
    ):
        add(name, command, text).add_argument("ids", metavar="ID", type=int, nargs="+")


def _list_dead(options: argparse.Namespace) -> None:
    for each in asyncio.run(_admin.dead_letters(_database(options), limit=options.limit)):
        reason = each.reason.strip().splitlines()[-1][:60]
        print(
            f"{each.id:>10}  {each.died_at:%Y-%m-%d %H:%M:%S}  {each.scope_id[:20]:<20}  {reason}"
        )


def _show_dead(options: argparse.Namespace) -> int:
    found = asyncio.run(_admin.dead_letters(_database(options), options.ids))
    for each in found:
        print(f"id: {each.id}\nscope: {each.scope_id}\npartition: {each.partition}")
        print(f"died at: {each.died_at}\nattempts: {each.attempts}")
        print(f"message: {_admin.readable(each.message)}\nreason: {each.reason.strip()}\n")
    return _all_found(len(found), options)


def _requeue_dead(options: argparse.Namespace) -> int:
    return _all_found(asyncio.run(_admin.requeue(_database(options), options.ids)), options)


def _drop_dead(options: argparse.Namespace) -> int:
    return _all_found(asyncio.run(_admin.drop(_database(options), options.ids)), options)


def _all_found(count: int, options: argparse.Namespace) -> int:
    missing = len(set(options.ids)) - count
    if missing:
        print(f"asgiref.postgres: {missing} of these ids are no dead letters.", file=sys.stderr)
    return 1 if missing else 0
