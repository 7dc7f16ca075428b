"""The bot's application: a number-guessing game, one running instance per scope.

The application has the signature of ASGI: ``await application(scope, receive, send)``. The server
starts it once for each user, and its local variables hold its whole state: nothing is looked up by
name, so users cannot be mixed up.

========================  ===================================================================
scope                     ``{"type": "chat", "user": nickname}``
``receive()`` returns     ``{"type": "chat.message", "text": ..., "target": where to answer}``
``send()`` takes          ``{"type": "chat.reply", "text": ..., "target": where to answer}``
========================  ===================================================================
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from asgiref.sync import sync_to_async

from .storage import Storage, Win
from .trace import Tracer

LOWEST, HIGHEST = 1, 100

HELP = (
    f"I think of a number from {LOWEST} to {HIGHEST}: guess it. "
    "I also know: new, history, best, help."
)

OUT_OF_RANGE = f"My number is from {LOWEST} to {HIGHEST}; yours is not, so it does not count."

# The ASGI specification leaves the values of scopes and events open, hence Any.
Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Verdict(Enum):
    """The result of a guess."""

    LOW = auto()
    HIGH = auto()
    FOUND = auto()
    OVER = auto()


@dataclass(slots=True)
class Game:
    """One user's game: the secret and the guesses so far.

    >>> game = Game(42)
    >>> [game.guess(50), game.guess(42), game.guess(7)]
    [<Verdict.HIGH: 2>, <Verdict.FOUND: 3>, <Verdict.OVER: 4>]
    >>> game.guesses
    [50, 42]
    """

    secret: int
    guesses: list[int] = field(default_factory=list)

    def guess(self, number: int) -> Verdict:
        """Judge a guess; a finished game accepts no more."""
        if self.guesses and self.guesses[-1] == self.secret:
            return Verdict.OVER
        self.guesses.append(number)
        if number == self.secret:
            return Verdict.FOUND
        return Verdict.LOW if number < self.secret else Verdict.HIGH


class GuessingGame:
    """The ASGI-style application; it stores wins from a thread, in which SQLite may block."""

    def __init__(
        self, storage: Storage, trace: Tracer, secrets: random.Random | None = None
    ) -> None:
        self._storage = storage
        self._trace = trace
        self._secrets = secrets or random.Random()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Play with one user until the server cancels this scope."""
        if scope["type"] != "chat":
            raise ValueError(f"GuessingGame serves chat scopes only, not {scope['type']!r}")
        user: str = scope["user"]
        if task := asyncio.current_task():
            task.set_name(f"scope of {user}")
        game = self._new_game()
        while True:
            message = await receive()
            self._trace.ran("Bot application (one task per user)")
            word = first_word(message)
            if word == "new":
                game = self._new_game()
            text = await self._answer(user, game, word)
            await send({"type": "chat.reply", "text": text, "target": message["target"]})

    def _new_game(self) -> Game:
        return Game(self._secrets.randint(LOWEST, HIGHEST))

    async def _answer(self, user: str, game: Game, word: str) -> str:
        if word.removeprefix("-").isdecimal():
            if len(word) > 9 or not LOWEST <= int(word) <= HIGHEST:
                return OUT_OF_RANGE
            return await self._judge(user, game, int(word))
        if word == "new":
            return f"I have a new number from {LOWEST} to {HIGHEST} in mind."
        if word == "history":
            guesses = ", ".join(map(str, game.guesses)) or "none yet"
            return f"{user}, your guesses: {guesses}"
        if word == "best":
            return await sync_to_async(self._best)()
        return HELP

    async def _judge(self, user: str, game: Game, number: int) -> str:
        match game.guess(number):
            case Verdict.LOW:
                return f"{number} is too low (guess {len(game.guesses)})."
            case Verdict.HIGH:
                return f"{number} is too high (guess {len(game.guesses)})."
            case Verdict.OVER:
                return f"You found {game.secret} already. Say new for another number."
            case Verdict.FOUND:
                best = await sync_to_async(self._record_win)(user, len(game.guesses))
                return f"{number} is right after {len(game.guesses)} guesses! {best}"

    def _record_win(self, user: str, guesses: int) -> str:
        self._storage.add_win(user, guesses)
        return self._best()

    def _best(self, *newest: Win) -> str:
        """Return the best player; runs on the thread that sync_to_async chooses."""
        self._trace.ran("Best players in SQLite (sync_to_async)")
        wins = [*self._storage.best_wins(1), *newest]
        if not wins:
            return "Nobody has won yet."
        best = min(wins, key=lambda win: win.guesses)
        return f"The best so far: {best.user} with {best.guesses}."


def first_word(message: Event) -> str:
    """Return the first word of a message, in lower case and without punctuation."""
    words = str(message["text"]).lower().split()
    return words[0].strip("?!.") if words else ""
