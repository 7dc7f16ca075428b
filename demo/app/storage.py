"""SQLite for the guestbook and for the games.

Invariant: every use opens and closes its own connection, so any thread may call anything.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file; commit at the end, or roll back after an exception."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
        yield database
