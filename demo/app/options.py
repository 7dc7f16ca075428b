"""The command line and the port. ``run.py`` tries both before it installs anything."""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from command_line import make_parser  # from tools/

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
MOST_WORKERS = 8
VARIABLE = "ASGIREF_POSTGRES_DATABASE"

_REASONS = {
    errno.EADDRINUSE: "is in use by another program",
    errno.EACCES: "needs privileges that this user does not have (1024 and higher need none)",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The options, and the folder ``state``, which outlives the run.

    ``port`` is None for the default one, or another if that is taken; 0 is any free port.
    ``workers`` is the number of processes for the bot's scopes; ``database`` is the URL of their
    database, or None for our own PostgreSQL.
    """

    state: Path
    data: Path
    check: bool = False
    port: int | None = None
    workers: int = 0
    database: str | None = None


def parse(arguments: Sequence[str], state: Path) -> Settings:
    """Read the options. Exits the program after ``--help`` or for a wrong command line."""
    parser = make_parser("A guestbook, a chatbot and a trip over the bridge, on asgiref.")
    parser.add_argument("--check", action="store_true", help="visit everything, then exit 0 or 1")
    parser.add_argument(
        "--port",
        type=int,
        metavar="PORT",
        help=f"HTTP port, 0 for a free one (default: {DEFAULT_PORT} if free)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, MOST_WORKERS + 1),
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
        default=state / "data",
        metavar="FOLDER",
        help="for the guestbook (default: .demo/data; --check always takes a temporary folder)",
    )
    settings = Settings(state, **vars(parser.parse_args(arguments)))
    if not 0 <= (settings.port or 0) <= 65535:
        parser.error(f"argument --port: {settings.port} is not a number from 0 to 65535")
    if settings.database and not settings.workers and not settings.check:
        parser.error("--database has no effect without workers: add --workers N")
    return replace(settings, database=settings.database or os.environ.get(VARIABLE))


def bind(port: int | None) -> socket.socket:
    """Listen on a port of this machine. Raises an OSError that names the port and the remedy."""
    try:
        return socket.create_server((HOST, DEFAULT_PORT if port is None else port))
    except OSError as error:
        if port is None:
            print(f"Port {DEFAULT_PORT} is in use; taking a free one (--port chooses another).")
            return bind(0)
        reason = _REASONS.get(error.errno or 0) or f"cannot be used ({error.strerror})"
        remedy = "choose another with --port N, or let --port 0 take a free one."
        raise OSError(f"port {port} {reason}: {remedy}") from None
