"""The demo's data: one SQLite file, and a folder for uploaded files next to it.

Rules: every call opens and closes its own connection, so that any thread may call anything; nothing
here depends on threads, loops or HTTP. A file becomes visible only when it is complete: its bytes
go to a temporary file first, and the row in the table is written after the rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
CREATE TABLE IF NOT EXISTS win (
    id INTEGER PRIMARY KEY, user TEXT NOT NULL, guesses INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS turn (
    id INTEGER PRIMARY KEY, game TEXT NOT NULL, secret INTEGER NOT NULL, guesses TEXT NOT NULL,
    message INTEGER NOT NULL, answer TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS turn_of_game ON turn (game, id);
"""

BLOCK = 64 * 1024

KEPT_TURNS = 1000
"""Per game: several times the turns that a worker may play before it acknowledges any."""


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


@dataclass(frozen=True, slots=True)
class Win:
    """A won game and how many guesses it took."""

    user: str
    guesses: int


@dataclass(frozen=True, slots=True)
class Turn:
    """The state of a game after a message; ``message`` is its number, ``answer`` the reply."""

    secret: int
    guesses: tuple[int, ...]
    message: int
    answer: str


class Storage:
    """The guestbook's entries, uploaded files, won games and games under way, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._database = folder / "demo.sqlite3"
        self._files = folder / "files"
        self._files.mkdir(parents=True, exist_ok=True)
        with self._connection() as database:
            database.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that commits at the end, or rolls back after an exception."""
        with contextlib.closing(sqlite3.connect(self._database, timeout=10)) as database, database:
            yield database

    def add_entry(self, name: str, text: str) -> None:
        """Sign the guestbook."""
        with self._connection() as database:
            database.execute("INSERT INTO entry (name, text) VALUES (?, ?)", (name, text))

    def entries(self, limit: int = 20) -> list[Entry]:
        """Return the latest entries, newest first."""
        query = "SELECT name, text, signed FROM entry ORDER BY id DESC LIMIT ?"
        with self._connection() as database:
            return [Entry(*row) for row in database.execute(query, (limit,))]

    def add_win(self, user: str, guesses: int) -> None:
        """Record that ``user`` won with this number of guesses."""
        with self._connection() as database:
            database.execute("INSERT INTO win (user, guesses) VALUES (?, ?)", (user, guesses))

    def best_wins(self, limit: int = 5) -> list[Win]:
        """Return the wins with the fewest guesses, with the earliest first among equals."""
        query = "SELECT user, guesses FROM win ORDER BY guesses, id LIMIT ?"
        with self._connection() as database:
            return [Win(*row) for row in database.execute(query, (limit,))]

    def last_turn(self, game: str) -> Turn | None:
        """Return the latest turn of this game."""
        return self._turn("game = ? ORDER BY id DESC LIMIT 1", (game,))

    def turn_of(self, game: str, message: int) -> Turn | None:
        """Return the turn of this message, if it is among the latest ``KEPT_TURNS``."""
        return self._turn("game = ? AND message = ?", (game, message))

    def _turn(self, which: str, values: tuple[object, ...]) -> Turn | None:
        query = f"SELECT secret, guesses, message, answer FROM turn WHERE {which}"
        with self._connection() as database:
            row = database.execute(query, values).fetchone()
        return Turn(row[0], tuple(json.loads(row[1])), row[2], row[3]) if row else None

    def keep_turn(self, game: str, turn: Turn, win: Win | None = None) -> None:
        """Store a turn, and its win if there is one, in one transaction."""
        values = (game, turn.secret, json.dumps(turn.guesses), turn.message, turn.answer)
        with self._connection() as database:
            query = "INSERT INTO turn (game, secret, guesses, message, answer) VALUES "
            database.execute(query + "(?, ?, ?, ?, ?)", values)
            old = "SELECT id FROM turn WHERE game = ? ORDER BY id DESC LIMIT -1 OFFSET ?"
            database.execute(f"DELETE FROM turn WHERE id IN ({old})", (game, KEPT_TURNS))
            if win is not None:
                query = "INSERT INTO win (user, guesses) VALUES (?, ?)"
                database.execute(query, (win.user, win.guesses))

    def forget_game(self, game: str) -> None:
        """Delete the turns of this game."""
        with self._connection() as database:
            database.execute("DELETE FROM turn WHERE game = ?", (game,))

    def forget_games(self, start: str) -> None:
        """Delete the turns of all games whose names start with this text."""
        with self._connection() as database:
            database.execute("DELETE FROM turn WHERE substr(game, 1, ?) = ?", (len(start), start))

    def files(self, limit: int = 20) -> list[File]:
        """Return the stored files, the latest first."""
        query = "SELECT name, size, sha256 FROM file ORDER BY rowid DESC LIMIT ?"
        with self._connection() as database:
            return [File(*row) for row in database.execute(query, (limit,))]

    def file(self, name: str) -> File | None:
        """Return the stored file of this name, if any."""
        query = "SELECT name, size, sha256 FROM file WHERE name = ?"
        with self._connection() as database:
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
        file = File(name, size, digest.hexdigest())
        with self._connection() as database:
            database.execute(
                "INSERT OR REPLACE INTO file (name, size, sha256) VALUES (?, ?, ?)",
                (file.name, file.size, file.sha256),
            )
        return file

    def read_file(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a stored file in blocks of 64 KiB."""
        with open(self._files / name, "rb") as source:
            while block := source.read(BLOCK):
                yield block
