"""The bot's application: a number-guessing game, one running instance per scope.

The application has an ASGI signature, and the server starts it once for each user. A scope is
``{"type": "chat", "user": nickname, "game": unique id}``; ``receive`` returns
``{"type": "chat.message", "text": ..., "number": unique in the game}``, or ``chat.left`` when the
user has gone; ``send`` takes ``chat.reply`` with the same number.

Invariant: SQLite holds each message before its answer is sent, and a game follows from its messages
alone. So when a worker is killed, another one replays the game and answers a redelivered message as
before, without counting its guess twice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path

from asgiref.sync import sync_to_async

from . import Receive, Scope, Send
from .storage import connected
from .trace import Where

LOWEST, HIGHEST = 1, 100

HELP = f"Guess my number from {LOWEST} to {HIGHEST}. I also know: new, history, best, help."
OUT_OF_RANGE = f"My number is from {LOWEST} to {HIGHEST}; yours is not, so it does not count."

_SCHEMA = """
CREATE TABLE IF NOT EXISTS turn (
    game TEXT, number INTEGER, user TEXT NOT NULL, word TEXT NOT NULL, won INTEGER,
    PRIMARY KEY (game, number));
"""


@dataclass(slots=True)
class Game:
    """One user's game, which follows from its id and the words so far."""

    id: str
    rounds: int = 0
    guesses: list[int] = field(default_factory=list)

    @property
    def secret(self) -> int:
        return random.Random(f"{self.id}/{self.rounds}").randint(LOWEST, HIGHEST)

    @property
    def is_won(self) -> bool:
        return self.guesses[-1:] == [self.secret]

    def answer(self, word: str) -> str:
        """Play one word, and return the answer."""
        if word.removeprefix("-").isdecimal():
            return self._judge(word)
        if word == "history":
            return f"your guesses: {', '.join(map(str, self.guesses)) or 'none yet'}"
        if word == "new":
            self.rounds, self.guesses = self.rounds + 1, []
            return f"I have a new number from {LOWEST} to {HIGHEST} in mind."
        return HELP

    def _judge(self, word: str) -> str:
        if len(word) > 9 or not LOWEST <= int(word) <= HIGHEST:
            return OUT_OF_RANGE
        if self.is_won:
            return f"You found {self.secret} already. Say new for another number."
        number = int(word)
        self.guesses.append(number)
        if self.is_won:
            return f"{number} is right after {len(self.guesses)} guesses!"
        verdict = "low" if number < self.secret else "high"
        return f"{number} is too {verdict} (guess {len(self.guesses)})."


class GuessingGame:
    """The application; ``path`` is the SQLite file, which several processes may share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with connected(path) as database:
            database.executescript(_SCHEMA)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Play with one user until the user leaves or the server cancels this scope."""
        if scope["type"] != "chat":
            raise ValueError(f"GuessingGame serves chat scopes only, not {scope['type']!r}")
        if task := asyncio.current_task():
            task.set_name(f"scope of {scope['user']}")
        game, answers = self._new_game(scope["game"]), dict[int, str]()
        for number, word in await sync_to_async(self._turns)(game.id):
            answers[number] = game.answer(word)
        while (message := await receive())["type"] != "chat.left":
            number, word = message["number"], first_word(message["text"])
            if number not in answers:
                answers[number] = game.answer(word)
            # SQLite may block, so it gets a thread.
            best, stored_at = await sync_to_async(self._store)(game, number, scope["user"], word)
            reply = {"type": "chat.reply", "number": number, "where": asdict(Where.here())}
            reply |= {"stored_at": asdict(stored_at), "again": message.get("redelivered", False)}
            await send({**reply, "text": best if word == "best" else answers[number]})
        await sync_to_async(self._forget)(game.id)

    def _new_game(self, id: str) -> Game:
        return Game(id)

    def _turns(self, game: str) -> list[tuple[int, str]]:
        query = "SELECT number, word FROM turn WHERE game = ? ORDER BY number"
        with connected(self._path) as database:
            return database.execute(query, (game,)).fetchall()

    def _store(self, game: Game, number: int, user: str, word: str) -> tuple[str, Where]:
        """Store a turn unless it is stored; return the best player of all, and where this ran."""
        row = (game.id, number, user, word, len(game.guesses) if game.is_won else None)
        query = "SELECT user, won FROM turn WHERE won ORDER BY won, rowid LIMIT 1"
        with connected(self._path) as database:
            database.execute("INSERT OR IGNORE INTO turn VALUES (?, ?, ?, ?, ?)", row)
            best = database.execute(query).fetchone()
        text = f"The best so far: {best[0]} with {best[1]}." if best else "No player has won yet."
        return text, Where.here()

    def _forget(self, game: str) -> None:
        with connected(self._path) as database:
            database.execute("DELETE FROM turn WHERE game = ? AND won IS NULL", (game,))


def first_word(text: str) -> str:
    """Return the first word of a text, in lower case and without punctuation."""
    words = text.lower().split()
    return words[0].strip("?!.") if words else ""
