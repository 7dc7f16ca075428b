"""The command line and the port. ``run.py`` tries both before it installs anything."""

from __future__ import annotations

import argparse
import errno
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
MOST_WORKERS = 8
VARIABLE = "ASGIREF_POSTGRES_DATABASE"


class PortUnusable(OSError):
    """The port is unusable; the text is one sentence that names the port and the remedy."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options. Exits the program after ``--help`` or for a wrong command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.database and not options.workers and not options.check:
        parser.error("--database has no effect without workers: add --workers N")
    options.database = options.database or os.environ.get(VARIABLE)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description="A guestbook, a chatbot and a trip over the bridge, on asgiref."
    )
    version = f"%(prog)s of asgiref {_version()}"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument("--check", action="store_true", help="visit everything, then exit 0 or 1")
    parser.add_argument(
        "--port",
        type=_number(0, 65535),
        help=f"HTTP port, 0 for a free one (default: {DEFAULT_PORT} if free)",
    )
    parser.add_argument(
        "--workers",
        type=_number(1, MOST_WORKERS),
        default=0,
        metavar="PROCESSES",
        help=f"run the bot's scopes in 1 to {MOST_WORKERS} processes (default: in this one)",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"PostgreSQL for the workers (default: {VARIABLE}, else a server of the demo's own)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="for the guestbook (default: .demo/data; --check always takes a temporary folder)",
    )
    return parser


def _version() -> str:
    """Return the version of this checkout, without importing a package that may be missing."""
    source = Path(__file__).resolve().parents[2] / "packages/asgiref/src/asgiref/__init__.py"
    found = re.search(r'^__version__ = "(.+)"$', source.read_text("utf-8"), re.M)
    return found[1] if found else "unknown"


def _number(low: int, high: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return parsed


def bind(port: int) -> socket.socket:
    """Listen on ``port`` of 127.0.0.1; 0 means any free port. Raises `PortUnusable`."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortUnusable(_advice(port, error)) from None
    return listener


def _advice(port: int, error: OSError) -> str:
    remedy = "with --port N, or let --port 0 take a free one."
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program: end that one, choose another {remedy}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"port {port} needs privileges that this user does not have: choose 1024 or higher "
            f"{remedy}"
        )
    return f"cannot listen on port {port} of {HOST}: {error.strerror}."
