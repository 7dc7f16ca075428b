"""The demo's command line. ``run.py`` reads it first, before anything is installed."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .fleet_facts import MOST_WORKERS

DEFAULT_PORT = 8000
VARIABLE = "ASGIREF_POSTGRES_DATABASE"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options. Exits the program after ``--help`` or for a wrong command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.database and not options.workers and not options.check:
        parser.error("--database is for the workers: say how many with --workers")
    options.database = options.database or os.environ.get(VARIABLE)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="A Flask guestbook and an IRC chatbot on asgiref.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s of asgiref {_version()}",
        help="show the version of this checkout and exit",
    )
    parser.add_argument("--check", action="store_true", help="visit everything, then exit 0 or 1")
    parser.add_argument(
        "--port", type=_port, help=f"HTTP port, 0 for a free one (default: {DEFAULT_PORT} if free)"
    )
    parser.add_argument(
        "--irc",
        type=_host_and_port,
        metavar="HOST:PORT",
        help="use this IRC server (default: one of the demo's own)",
    )
    parser.add_argument(
        "--bot-nick",
        default="guessbot",
        metavar="NICK",
        help="the bot's nickname (default: %(default)s)",
    )
    parser.add_argument(
        "--channel",
        default="#asgiref",
        help="where the bot listens as well (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=0,
        metavar="PROCESSES",
        help=f"run the bot's scopes in so many, 1 to {MOST_WORKERS} (default: in this one)",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"the PostgreSQL between them (default: {VARIABLE}, else a server of our own)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="where the guestbook is kept (default: .demo/data; --check: a temporary folder)",
    )
    return parser


def _version() -> str:
    """Return the version of this checkout, without importing a package that may be missing."""
    source = Path(__file__).resolve().parents[2] / "packages/asgiref/src/asgiref/__init__.py"
    found = re.search(r'^__version__ = "(.+)"$', source.read_text("utf-8"), re.M)
    return found[1] if found else "unknown"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, which is a number up to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST_WORKERS}")
    return int(text)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, as in irc.test:6667")
    return host, int(port)
