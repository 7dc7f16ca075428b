"""The same game for scopes that can move to another process: its state is in SQLite.

With ``--workers`` the process of a scope may be killed at any moment, with its local variables, and
another process continues. So each turn is stored before its answer is sent, in one transaction: the
game, the number of the message, the answer, and the win, if any.

A redelivered message is played now if its turn was not stored. If it was stored, its answer is sent
again and the guess is not counted twice. Several messages may be redelivered, because a worker
continues to play before it acknowledges a batch.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os

from asgiref.sync import sync_to_async

from .game import Event, Game, GuessingGame, Receive, Scope, Send, first_word
from .storage import Turn, Win


class KeptGuessingGame(GuessingGame):
    """The application of ``GuessingGame`` for scopes of ``asgiref.postgres``.

    A scope carries the mark of its ``run`` of the demo. There are two types of messages:
    ``chat.message``, and ``chat.left``, which deletes the game; each has a ``number`` that is
    unique in the run. In a reply, ``where`` is the thread and the task that made it, and
    ``answers`` the number of the answered message.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Play with one user until the user leaves or the server cancels this scope."""
        user: str = scope["user"]
        # Two demos may share a file and each have a user of this name.
        key = f"{scope['run']}/{scope['scope_id']}"
        self._trace.name_loop(f"the loop of pid {os.getpid()}")
        if task := asyncio.current_task():
            task.set_name(f"scope of {user}")
        while (message := await receive())["type"] != "chat.left":
            where = self._trace.ran("Bot application (one task per user)")
            reply = {"type": "chat.reply", "target": message["target"]}
            reply |= {"answers": message["number"], "where": dataclasses.asdict(where)}
            await send({**reply, "text": await self._play(user, key, message)})
        await sync_to_async(self._storage.forget_game)(key)

    async def _play(self, user: str, key: str, message: Event) -> str:
        """Return the answer of a stored turn, or make the turn and store it."""
        if message.get("redelivered"):
            same = await sync_to_async(self._storage.turn_of)(key, message["number"])
            if same is not None:
                return same.answer
        last = await sync_to_async(self._storage.last_turn)(key)
        word = first_word(message)
        game = self._new_game()
        if last is not None and word != "new":
            game = Game(last.secret, list(last.guesses))
        before = len(game.guesses)
        answer = await self._answer(user, game, word)
        turn = Turn(game.secret, tuple(game.guesses), message["number"], answer)
        won = len(game.guesses) > before and game.guesses[-1] == game.secret
        win = Win(user, len(game.guesses)) if won else None
        await sync_to_async(self._storage.keep_turn)(key, turn, win)
        return answer

    def _record_win(self, user: str, guesses: int) -> str:
        return self._best(Win(user, guesses))  # stored with the turn
