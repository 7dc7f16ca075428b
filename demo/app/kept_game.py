"""The game for scopes that can move: the same game, but what it remembers is kept in SQLite.

With ``--workers`` the process of a scope may be killed at any moment, and another one goes on.
Local variables die with the first. So each turn is kept before its answer is sent, and a turn is
one transaction: the game, the number of the message, the answer, and the win if it was one.

A message that comes again (``redelivered``) was either not kept yet, then it is played now, or it
was, then its answer is sent again and the guess is not counted twice. There may be several of
those: a worker acknowledges in batches, and goes on playing meanwhile.
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

    A scope has the mark of the ``run`` of the demo that it belongs to. There are two types of
    messages: ``chat.message``, and ``chat.left``, after which the game is forgotten; each has a
    ``number`` that no other message of the run has. A reply says in ``where`` on which thread and
    in which task it was made, and in ``answers`` which message it answers.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Play with one user until the user leaves or the server cancels this scope."""
        user: str = scope["user"]
        # Two demos may use one file, and both have a user of that name.
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
        """Make a turn and keep it, or find it kept; return the answer."""
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
        return self._best(Win(user, guesses))  # it is recorded with the turn
