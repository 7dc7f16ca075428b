"""The guestbook's entries, in one SQLite file.

Invariant: every call opens and closes its own connection, so any thread may call anything.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL,
    signed TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M', 'now', 'localtime')));
"""


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file; commit at the end, or roll back after an exception."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
        yield database


@dataclass(frozen=True, slots=True)
class Entry:
    """One signature in the guestbook; ``signed`` is local time as text."""

    name: str
    text: str
    signed: str


class Storage:
    """The guestbook's entries, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "demo.sqlite3"
        with connected(self._path) as database:
            database.executescript(_SCHEMA)

    def add_entry(self, name: str, text: str) -> None:
        """Sign the guestbook."""
        with connected(self._path) as database:
            database.execute("INSERT INTO entry (name, text) VALUES (?, ?)", (name, text))

    def entries(self) -> list[Entry]:
        """Return the latest entries, newest first."""
        query = "SELECT name, text, signed FROM entry ORDER BY id DESC LIMIT 20"
        with connected(self._path) as database:
            return [Entry(*row) for row in database.execute(query)]
