"""The bot's application: a number-guessing game, one running instance per scope.

The application has an ASGI signature, and the server starts it once for each user. A scope is
``{"type": "chat", "user": nickname, "game": unique id}``; ``receive`` returns
``{"type": "chat.message", "text": ..., "number": higher than before}``, or ``chat.left`` when the
user has gone; ``send`` takes ``chat.reply`` with the same number.

Invariant: SQLite holds each message before its answer is sent, and an answer follows from the
messages up to its own. So when a worker is killed, another one continues, and answers a redelivered
message as before, without counting its guess twice.
"""

import asyncio
import random
from dataclasses import asdict
from pathlib import Path

from asgiref.sync import sync_to_async

from . import Receive, Scope, Send
from .storage import connected
from .trace import Where

LOWEST, HIGHEST = 1, 100

HELP = f"Guess my number from {LOWEST} to {HIGHEST}. I also know: new, history, help."
OUT_OF_RANGE = f"My number is from {LOWEST} to {HIGHEST}; yours is not, so it does not count."

_SCHEMA = """
CREATE TABLE IF NOT EXISTS turn (
    game TEXT, number INTEGER, word TEXT NOT NULL, PRIMARY KEY (game, number));
"""


class Game:
    """One user's game, which follows from its id and the words so far."""

    def __init__(self, id: str) -> None:
        self._random = random.Random(id)
        self._start()

    def _start(self) -> None:
        self.secret, self.guesses = self._random.randint(LOWEST, HIGHEST), list[int]()

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
            self._start()
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
        if task := asyncio.current_task():
            task.set_name(f"scope of {scope['user']}")
        while (message := await receive())["type"] != "chat.left":
            words, number = message["text"].lower().split(), message["number"]
            word = words[0].strip("?!.") if words else ""
            # SQLite may block, so it gets a thread.
            text, stored_at = await sync_to_async(self._turn)(scope["game"], number, word)
            reply = {"type": "chat.reply", "number": number, "text": text}
            reply |= {"where": asdict(Where.here()), "stored_at": asdict(stored_at)}
            await send({**reply, "again": message.get("redelivered", False)})

    def _turn(self, id: str, number: int, word: str) -> tuple[str, Where]:
        """Store a turn unless it is stored; return its answer, and where this ran."""
        game, words = (
            Game(id),
            "SELECT word FROM turn WHERE game = ? AND number < ? ORDER BY number",
        )
        with connected(self._path) as database:
            for (earlier,) in database.execute(words, (id, number)):
                game.answer(earlier)
            database.execute("INSERT OR IGNORE INTO turn VALUES (?, ?, ?)", (id, number, word))
        return game.answer(word), Where.here()
