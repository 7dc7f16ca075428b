"""The command line: ``python -m asgiref.postgres COMMAND``.

Exit codes: 0 for success; 1 if the command cannot work, with the reason on stderr; 2 for an invalid
command line; 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import logging.config
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from . import __version__, _admin, _schema
from ._codec import MAX_SIZE, CannotStart, PostgresServerError
from ._database import Database, migrate
from ._delivery import Limits
from ._worker import PostgresWorker

#: The environment variable with the database's URL, used without ``--database``.
VARIABLE = "ASGIREF_POSTGRES_DATABASE"

_LIMITS = Limits()
#: An option of a command: name, type, default, unit and help text.
_Option = tuple[str, Callable[[str], Any], Any, str, str]
_COMMON: list[_Option] = [
    ("schema", str, "asgiref", "SCHEMA", "the schema of the tables"),
    ("timeout", float, 10.0, "SECONDS", "until a frozen or vanished process loses its partitions"),
]
_MIGRATE: list[_Option] = [
    ("partitions", int, 64, "PARTITIONS", "at least the number of workers, ever; for a new schema"),
    ("max-size", int, MAX_SIZE, "BYTES", "the maximum size of a message; for a new schema"),
    ("grant", str, None, "ROLE", "a role that gets the rights of a worker or gateway"),
    ("grant-send", str, None, "ROLE", "a role that gets the right to send"),
]
_WORKER: list[_Option] = [
    ("messages", int, _LIMITS.messages, "MESSAGES", "the maximum to read ahead"),
    ("size", int, _LIMITS.size, "BYTES", "the maximum to read ahead"),
    ("scope-messages", int, _LIMITS.scope_messages, "MESSAGES", "the maximum for one scope"),
    ("scope-size", int, _LIMITS.scope_size, "BYTES", "the maximum for one scope"),
    ("attempts", int, _LIMITS.attempts, "TIMES", "failures that make a message a dead letter"),
    ("retry-delay", float, _LIMITS.retry_delay, "SECONDS", "before a retry; doubled each time"),
    ("max-applications", int, 10_000, "INSTANCES", "one more evicts an idle one"),
    ("idle-timeout", float, None, "SECONDS", "cancel an instance after this time without messages"),
    ("shutdown-timeout", float, 10.0, "SECONDS", "time to finish messages in hand at the end"),
    ("name", str, None, "NAME", "replaces host and process id in the status"),
    ("health-port", int, None, "PORT", "answer HTTP requests: 200 while connected, else 503"),
]


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
    path = options.log_config
    try:
        if path is None:
            text = "%(asctime)s %(levelname)s %(message)s"
            logging.basicConfig(level=options.log_level, format=text)
        elif path.endswith(".json"):
            logging.config.dictConfig(json.loads(Path(path).read_text()))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except Exception as error:
        raise CannotStart(f"The log configuration {path!r} cannot be used: {error}.") from error


# Options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asgiref.postgres",
        description="Workers of a gateway, on PostgreSQL. Start with migrate.",
    )
    parser.add_argument("--version", action="version", version=f"asgiref-postgres {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    migrating = _command(commands, "migrate", _migrate, "create or upgrade the schema")
    _add_options(migrating, _MIGRATE)
    _add_worker(_command(commands, "worker", _worker, "run an application for its scopes"))
    status = _command(commands, "status", _status, "show the owner and backlog of each partition")
    status.add_argument("--json", action="store_true", help="print everything as JSON")
    _command(commands, "check", _check, "check a setup, for health probes")
    dead = commands.add_parser("dead-letters", help="list, show, requeue or drop dead letters")
    _add_dead_letters(dead.add_subparsers(required=True, metavar="ACTION"))
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.set_defaults(command=run)
    parser.add_argument(
        "--database",
        default=os.environ.get(VARIABLE),
        metavar="URL",
        help=f"the URL of the database (default: the variable {VARIABLE}, else PGHOST etc.)",
    )
    _add_options(parser, _COMMON)
    parser.add_argument(
        "--log-level",
        default="INFO",
        type=_log_level,
        metavar="LEVEL",
        help="the lowest level that is logged (default: %(default)s)",
    )
    parser.add_argument(
        "--log-config",
        metavar="FILE",
        help="JSON for dictConfig, or the format of fileConfig (default: the log level alone)",
    )
    return parser


def _add_options(parser: argparse.ArgumentParser, options: list[_Option]) -> None:
    for name, kind, default, unit, text in options:
        shown = "none" if default is None else "%(default)s"
        parser.add_argument(
            f"--{name}", type=kind, default=default, metavar=unit, help=f"{text} (default: {shown})"
        )


def _add_worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("application", metavar="MODULE:APPLICATION", help="an ASGI application")
    _add_options(parser, _WORKER)
    parser.add_argument(
        "--codec",
        choices=("json", "msgpack"),
        default="json",
        help="how events are encoded; both are always read (default: %(default)s)",
    )
    parser.add_argument(
        "--reload", action="store_true", help="restart when a Python file here changes"
    )


def _log_level(text: str) -> str:
    if text.upper() not in logging.getLevelNamesMapping():
        raise argparse.ArgumentTypeError(f"{text!r} is not a log level")
    return text.upper()


def _database(options: argparse.Namespace) -> Database:
    return Database(options.database, options.schema, timeout=options.timeout)


# migrate, worker


def _migrate(options: argparse.Namespace) -> None:
    before = asyncio.run(
        migrate(
            _database(options),
            partitions=options.partitions,
            max_size=options.max_size,
            grant=options.grant,
            grant_send=options.grant_send,
        )
    )
    print(f"The schema {options.schema!r} has version {_schema.VERSION} (before: {before}).")


def _worker(options: argparse.Namespace) -> int | None:
    if options.reload:
        return _run_reloading()
    application = load(options.application)
    PostgresWorker(
        application,
        _database(options),
        limits=Limits(**{each.name: getattr(options, each.name) for each in fields(Limits)}),
        max_applications=options.max_applications,
        idle_timeout=options.idle_timeout,
        shutdown_timeout=options.shutdown_timeout,
        codec=options.codec,
        name=options.name,
        health_port=options.health_port,
    ).run()
    return None


def load(name: str) -> Any:
    """Return the application that ``module:attribute`` names.

    Raises:
        CannotStart: if there is none; if the import fails, its traceback is printed first.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise CannotStart(f"Name the application as MODULE:APPLICATION, not {name!r}.")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
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
    """Run the same command without ``--reload``, and restart it whenever a file changes."""
    command = [sys.executable, "-m", "asgiref.postgres"]
    command += [each for each in sys.argv[1:] if each != "--reload"]

    def end(_number: int, _frame: object) -> None:
        sys.exit(0)  # the finally clause below ends the worker too

    signal.signal(signal.SIGTERM, end)
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


def _add_dead_letters(actions: Any) -> None:
    listing = _command(actions, "list", _list_dead, "list dead letters, the latest first")
    _add_options(listing, [("limit", int, 100, "MESSAGES", "the maximum to list")])
    for name, run, text in (
        ("show", _show_dead, "show dead letters in full"),
        ("requeue", _requeue_dead, "let the application handle dead letters again"),
        ("drop", _drop_dead, "delete dead letters"),
    ):
        parser = _command(actions, name, run, text)
        parser.add_argument("ids", metavar="ID", type=int, nargs="+", help="an id from the list")


def _list_dead(options: argparse.Namespace) -> None:
    for each in asyncio.run(_admin.dead_letters(_database(options), limit=options.limit)):
        reason = (each.reason.strip().splitlines() or [""])[-1][:60]
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
        print(f"asgiref.postgres: {missing} of these ids are not dead letters.", file=sys.stderr)
    return 1 if missing else 0
