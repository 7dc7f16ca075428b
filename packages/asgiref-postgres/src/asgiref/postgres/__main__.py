"""The command line: ``python -m asgiref.postgres COMMAND``.

Exit codes: 0 for success; 1 if the command cannot work, with the reason on stderr; 2 for an invalid
command line; 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import logging.config
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, getdoc, signature
from pathlib import Path
from typing import Any, get_args

from . import __version__
from ._admin import ACTIONS, check, dead_letters, details, status, summary
from ._codec import CannotStart, PostgresServerError
from ._database import Database, migrate
from ._delivery import Limits
from ._schema import VERSION
from ._worker import PostgresWorker

#: The environment variable with the database's URL, used without ``--database``.
VARIABLE = "ASGIREF_POSTGRES_DATABASE"

#: Arguments without an option: the URL contains the password; each limit has an option instead.
_NO_OPTIONS = {"application", "database", "limits", "url", "password"}
_UNITS: dict[Any, str] = {int: "NUMBER", float: "SECONDS", str: "NAME"}
_LARGEST: dict[Any, int] = {int: 2**63 - 1, float: 2**31 - 1}
#: Matches an argument and its description in the docstring of a class or function.
_DESCRIBED = re.compile(r"^    (\w[\w, ]*): (.+(?:\n        .+)*)", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _set_up_logging(options.log_level, options.log_config)
        return options.command(options, _chosen(Database, options, url=options.database)) or 0
    except PostgresServerError as error:
        if options.log_level == "DEBUG" and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(f"asgiref.postgres: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _set_up_logging(level: str, path: str | None) -> None:
    try:
        if path is None:
            logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
        else:
            logging.config.dictConfig(json.loads(Path(path).read_text()))
    except Exception as error:
        raise CannotStart(f"The log configuration {path!r} cannot be used: {error}.") from error


# Options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asgiref.postgres",
        description="Run an application in workers on PostgreSQL. Start with migrate.",
    )
    parser.add_argument("--version", action="version", version=f"asgiref-postgres {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "migrate", _migrate, "create or upgrade the schema", migrate)
    run = "run an application for its scopes"
    worker = _command(commands, "worker", _worker, run, Limits, PostgresWorker)
    worker.add_argument("application", metavar="MODULE:APPLICATION", help="an ASGI application")
    worker.add_argument(
        "--reload", action="store_true", help="restart when a Python file in this folder changes"
    )
    _command(
        commands, "status", partial(_print, status), "show each owner's partitions and backlog"
    )
    _command(commands, "check", partial(_print, check), "check a setup, for health probes")
    dead = _command(commands, "dead-letters", _dead_letters, "list, show, requeue or drop them")
    dead.add_argument("action", choices=ACTIONS, help="all but list need ids")
    dead.add_argument("ids", metavar="ID", type=_checked(int), nargs="*", help="from the list")
    return parser


def _command(
    commands: Any, name: str, run: Callable[..., int | None], text: str, *targets: Any
) -> argparse.ArgumentParser:
    # A process started with an abbreviated --reload would start itself again and again.
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, allow_abbrev=False)
    parser.set_defaults(command=run)
    _add_common(parser)
    for target in (Database, *targets):
        for parameter in _parameters(target):
            _add_option(parser, parameter, _texts(target).get(parameter.name, ""))
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database",
        default=os.environ.get(VARIABLE),
        metavar="URL",
        help=f"the URL of the database (default: the variable {VARIABLE}, else PGHOST etc.)",
    )
    parser.add_argument(
        "--log-level",
        default="INFO",
        type=str.upper,
        choices=list(logging.getLevelNamesMapping()),
        metavar="LEVEL",
        help="the lowest level that is logged (default: %(default)s)",
    )
    parser.add_argument(
        "--log-config",
        metavar="FILE",
        help="a JSON file for logging.config.dictConfig (default: none, --log-level applies)",
    )


def _parameters(target: Any) -> list[Parameter]:
    """Return the arguments of a class or function that are options of a command."""
    found = signature(target).parameters.values()
    return [each for each in found if each.name not in _NO_OPTIONS]


def _texts(target: Any) -> dict[str, str]:
    """Return the first sentence about each argument in the docstring of a class or function."""
    described: list[tuple[str, str]] = _DESCRIBED.findall(getdoc(target) or "")
    return {
        name: re.split(r"[;.] ", " ".join(text.replace("``", "").split()))[0].rstrip(".")
        for names, text in described
        for name in names.split(", ")
    }


def _add_option(parser: argparse.ArgumentParser, parameter: Parameter, text: str) -> None:
    kind: Any = (get_args(parameter.annotation) or (parameter.annotation,))[0]
    parser.add_argument(
        f"--{parameter.name.replace('_', '-')}",
        type=_checked(kind),
        default=parameter.default,
        metavar=_UNITS[kind],
        help=text if parameter.default is None else f"{text} (default: %(default)s)",
    )


def _checked(kind: Any) -> Callable[[str], Any]:
    """Return a conversion that rejects negative and huge numbers; the classes check the rest."""

    def number(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if 0 <= (value := kind(text)) <= _LARGEST[kind]:
                return value
        unit = "a whole number" if kind is int else "a number"
        limits = f"give {unit} between 0 and {_LARGEST[kind]}"
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: {limits}")

    return number if kind in _LARGEST else str


def _chosen(target: Any, options: argparse.Namespace, **others: Any) -> Any:
    """Call ``target`` with its options."""
    names = [each.name for each in _parameters(target)]
    return target(**{name: getattr(options, name) for name in names}, **others)


# Commands


def _migrate(options: argparse.Namespace, database: Database) -> None:
    before = asyncio.run(_chosen(migrate, options, database=database))
    print(f"The schema {database.schema!r} has version {VERSION} (before: {before}).")


def _worker(options: argparse.Namespace, database: Database) -> int | None:
    if options.reload:
        return _run_reloading()
    application, limits = load(options.application), _chosen(Limits, options)
    others = {"application": application, "database": database, "limits": limits}
    _chosen(PostgresWorker, options, **others).run()
    return None


def load(name: str) -> Any:
    """Return the application that ``module:attribute`` names.

    Raises:
        CannotStart: if it cannot be imported; the traceback is printed first.
    """
    if ":" not in name:
        raise CannotStart(f"Name the application as MODULE:APPLICATION, not {name!r}.")
    try:
        return pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        raise CannotStart(
            f"The application {name!r} cannot be imported; see above. The current folder, which "
            f"the worker imports from, is {os.getcwd()!r}."
        ) from error


def _run_reloading() -> int:
    """Run the same command without ``--reload``, and restart it whenever a file changes."""
    command = [sys.executable, "-m", "asgiref.postgres"]
    command += [each for each in sys.argv[1:] if each != "--reload"]

    def end(*_: object) -> None:
        sys.exit(0)  # the finally clause stops the worker too

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


def _print(report: Any, _options: argparse.Namespace, database: Database) -> None:
    print(asyncio.run(report(database)))


def _dead_letters(options: argparse.Namespace, database: Database) -> None:
    if (options.action == "list") == bool(options.ids):
        raise CannotStart("dead-letters list takes no ids; show, drop and requeue need some.")
    rows = asyncio.run(dead_letters(database, options.action, options.ids))
    shown = {"list": summary, "show": details}.get(options.action)
    for text in map(shown, rows) if shown else ():
        print(text)
    if missing := sorted({*options.ids} - {row["id"] for row in rows}):
        raise CannotStart(f"These ids are not dead letters: {', '.join(map(str, missing))}.")


if __name__ == "__main__":
    sys.exit(main())
