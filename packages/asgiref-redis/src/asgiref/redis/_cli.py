"""The command line: ``python -m asgiref.redis worker|status|remove-group``.

Exit codes: 0 when it ended as it was asked to, for a worker also by Ctrl-C; 1 when it cannot work,
with one sentence on stderr; 2 for a wrong command line; 130 after Ctrl-C.
"""

import argparse
import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ._errors import CannotStart, RedisServerError
from ._status_table import remove_group, show_status
from ._worker import RedisWorker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(message)s")
    try:
        options.command(options)
    except RedisServerError as error:
        print(f"asgiref.redis: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asgiref.redis", description="Workers of a gateway, through Redis Streams."
    )
    parser.add_argument(
        "--version", action="version", version=f"asgiref-redis {version('asgiref-redis')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url",
        default=os.environ.get("ASGIREF_REDIS_URL", "redis://127.0.0.1:6379"),
        help="where Redis is (default: what ASGIREF_REDIS_URL says; now %(default)s)",
    )
    common.add_argument(
        "--connection", default="default", help="the gateway's connection (default: %(default)s)"
    )
    common.add_argument(
        "--log-level",
        default="INFO",
        type=_log_level,
        metavar="LEVEL",
        help="the least level that is logged (default: %(default)s)",
    )
    _add_worker(commands, common)
    _add_status(commands, common)
    _add_remove_group(commands, common)
    return parser


def _add_worker(commands: Any, common: argparse.ArgumentParser) -> None:
    worker = commands.add_parser("worker", parents=[common], help="run an application's scopes")
    worker.add_argument("application", metavar="MODULE:APPLICATION", help="an ASGI application")
    worker.add_argument("--group", required=True, help="workers of one group share the scopes")
    worker.add_argument("--name", help="the worker's name (default: a random one)")
    worker.add_argument(
        "--codec",
        choices=("json", "msgpack"),
        default="json",
        help="how events are encoded; both are always read (default: %(default)s)",
    )
    worker.add_argument(
        "--lifespan",
        action="store_true",
        help="drive the application's lifespan protocol (default: do not)",
    )
    _add_limits(worker)
    worker.set_defaults(command=_run_worker)


def _add_limits(worker: argparse.ArgumentParser) -> None:
    def add(name: str, kind: type, default: float | None, unit: str, text: str) -> None:
        shown = "no limit" if default is None else "%(default)s"
        worker.add_argument(
            name, type=kind, default=default, metavar=unit, help=f"{text} (default: {shown})"
        )

    add("--lease", float, 10.0, "SECONDS", "others take over from a worker silent for so long")
    add("--prefetch", int, 256, "MESSAGES", "at most so many of a partition are read, unfinished")
    add("--failures", int, 5, "TIMES", "so many failures or worker deaths make a dead letter")
    add("--max-applications", int, 10_000, "INSTANCES", "one more evicts the least recently used")
    add("--idle-timeout", float, None, "SECONDS", "cancel an instance without messages for so long")
    add("--shutdown-timeout", float, 10.0, "SECONDS", "to finish what is in hand at the end")
    add("--replicas", int, 0, "REPLICAS", "so many must have everything before it counts")


def _add_status(commands: Any, common: argparse.ArgumentParser) -> None:
    status = commands.add_parser("status", parents=[common], help="show who holds what")
    status.add_argument("--json", action="store_true", help="print the numbers once, as JSON")
    status.add_argument("--once", action="store_true", help="print the table once")
    status.set_defaults(command=_show_status)


def _add_remove_group(commands: Any, common: argparse.ArgumentParser) -> None:
    remove = commands.add_parser(
        "remove-group",
        parents=[common],
        help="forget a group that has no workers, and what it has not acknowledged",
    )
    remove.add_argument("group", help="the group's name")
    remove.set_defaults(command=_remove_group)


def _log_level(text: str) -> str:
    if text.upper() not in logging.getLevelNamesMapping():
        raise argparse.ArgumentTypeError(f"{text!r} is no log level")
    return text.upper()


def _run_worker(options: argparse.Namespace) -> None:
    application = load(options.application)
    worker = RedisWorker(
        application,
        options.url,
        group=options.group,
        connection=options.connection,
        name=options.name,
        lease=options.lease,
        prefetch=options.prefetch,
        failures=options.failures,
        codec=options.codec,
        replicas=options.replicas,
        max_applications=options.max_applications,
        idle_timeout=options.idle_timeout,
        shutdown_timeout=options.shutdown_timeout,
        lifespan=options.lifespan,
    )
    worker.run()


def _show_status(options: argparse.Namespace) -> None:
    live = sys.stdout.isatty() and not options.once and not options.json
    asyncio.run(show_status(options.url, options.connection, json=options.json, live=live))


def _remove_group(options: argparse.Namespace) -> None:
    asyncio.run(remove_group(options.url, options.connection, options.group))


def load(name: str) -> Any:
    """The application that ``module:attribute`` names.

    Raises:
        CannotStart: if there is none.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise CannotStart(f"The application is named MODULE:APPLICATION, not {name!r}.")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise CannotStart(
            f"The application {name!r} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotStart(f"The module {module_name!r} has no {path!r}.") from None
    if not callable(found):
        raise CannotStart(f"{name!r} is no ASGI application, but {found!r}.")
    return found
