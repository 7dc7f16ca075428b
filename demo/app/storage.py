"""The guestbook's data: one SQLite file, and a folder for uploaded files next to it.

Invariant: every call opens and closes its own connection, so any thread may call anything; and a
file is visible only when it is complete, because its row is written after the last byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL,
    signed TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M', 'now', 'localtime')));
CREATE TABLE IF NOT EXISTS file (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
"""

BLOCK = 64 * 1024


class TooLarge(Exception):
    """An upload is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One signature in the guestbook; ``signed`` is local time as text."""

    name: str
    text: str
    signed: str


@dataclass(frozen=True, slots=True)
class File:
    """One stored file; ``size`` in bytes, ``sha256`` in hexadecimal."""

    name: str
    size: int
    sha256: str


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file; commit at the end, or roll back after an exception."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
        yield database


class Storage:
    """The guestbook's entries and the uploaded files, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "demo.sqlite3"
        self._files = folder / "files"
        self._files.mkdir(parents=True, exist_ok=True)
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

    def files(self) -> list[File]:
        """Return the stored files, the latest first."""
        query = "SELECT name, size, sha256 FROM file ORDER BY rowid DESC LIMIT 20"
        with connected(self._path) as database:
            return [File(*row) for row in database.execute(query)]

    def file(self, name: str) -> File | None:
        """Return the stored file of this name, if any."""
        query = "SELECT name, size, sha256 FROM file WHERE name = ?"
        with connected(self._path) as database:
            row = database.execute(query, (name,)).fetchone()
            return File(*row) if row else None

    def write_file(self, name: str, blocks: Iterable[bytes], limit: int) -> File:
        """Store blocks as they arrive. ``name`` must be a plain file name.

        Raises ``TooLarge`` beyond ``limit`` bytes, or any error of ``blocks``; then it stores
        nothing.
        """
        digest, size = hashlib.sha256(), 0
        handle, temporary = tempfile.mkstemp(dir=self._files, prefix=".partial-")
        try:
            with open(handle, "wb") as output:
                for block in blocks:
                    size += len(block)
                    if size > limit:
                        raise TooLarge(f"{name!r} is larger than {limit} bytes")
                    digest.update(block)
                    output.write(block)
            os.replace(temporary, self._files / name)
        except BaseException:
            os.unlink(temporary)
            raise
        row = (name, size, digest.hexdigest())
        with connected(self._path) as database:
            database.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?)", row)
        return File(*row)

    def read_file(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a stored file in blocks of 64 KiB."""
        with open(self._files / name, "rb") as source:
            while block := source.read(BLOCK):
                yield block
