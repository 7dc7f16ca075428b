"""The same chatbot with ``--workers``: a ``RedisGateway``, whose scopes run in other processes.

It keeps the connection to the chat server and runs no application. Each line is stored in Redis
before the next one is read; a worker's reply comes back through Redis into ``application_send``.

Rules: as in ``bot``. A scope cannot be deleted from here, so a user who leaves is one more message
to the scope, ``chat.left``, and the application ends itself. A reply may come twice, marked, when
a worker was killed after Redis had it and before the message was acknowledged; a chat wants each
line once, so the ids of those that were said are kept for a while. ``tally`` is replaced, never
changed, so that other threads may read it.
"""

from __future__ import annotations

import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from asgiref.redis import RedisGateway

from .bot import MAX_SCOPES
from .bot_connection import BotConnection, Line
from .fleet_facts import CONNECTION, PARTITIONS
from .game import Event, Scope
from .irc import fold
from .trace import Chat, Tracer, Where

REMEMBERED_REPLIES = 10_000


@dataclass(frozen=True, slots=True)
class Tally:
    """What went through the gateway.

    ``scopes`` has the users who talked and did not leave, each with the number of its partition, or
    ``None`` until its first answer tells it. ``repeated`` counts replies that came a second time.
    """

    scopes: tuple[tuple[str, int | None], ...] = ()
    asked: int = 0
    answered: int = 0
    repeated: int = 0


class FleetBot(RedisGateway):
    """Carries lines to the workers' scopes, and their replies back."""

    name = "bot"

    def __init__(self, url: str, trace: Tracer, connection: BotConnection) -> None:
        super().__init__(url, CONNECTION, partitions=PARTITIONS)
        self.connection = connection
        self.tally = Tally()
        self._trace = trace
        self._ready: Callable[[], None] = lambda: None
        # No other run of the demo has this: another one may use the same Redis, or the same files.
        self.run_mark = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._users: OrderedDict[str, tuple[str, int | None]] = OrderedDict()
        self._said: OrderedDict[str, None] = OrderedDict()

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Run on this thread; calls ``ready`` when the bot first hears and is heard."""
        self._ready = ready
        self.run()

    def stop(self) -> None:
        """Ask the bot to say goodbye and end; safe from any thread."""
        self.connection.stop()

    async def handle(self) -> None:
        """Talk to the chat server until ``stop``; when this returns, ``run`` does."""
        await self.connection.run(self._ready, self._hear, self._forget)

    async def _hear(self, line: Line) -> None:
        where = self._trace.ran("RedisGateway.handle")
        self._trace.publish(Chat(line.user, line.user, line.text.strip(), where))
        message = {"type": "chat.message", "text": line.text, "target": line.target}
        self._note_user(line.user)
        self.tally = replace(self.tally, asked=self.tally.asked + 1)
        await self._store(line.user, message)

    async def _forget(self, user: str) -> None:
        if self._users.pop(fold(user), None) is not None:
            self._publish_users()
            await self._store(user, {"type": "chat.left"})

    async def _store(self, user: str, message: Event) -> None:
        marks = {"run": self.run_mark, "number": next(self._numbers)}
        await self.store(fold(user), {"type": "chat", "user": user}, {**message, **marks})

    async def application_send(self, scope: Scope, message: Event) -> None:
        """Carry a reply to the chat server, unless it was said already."""
        if message["type"] != "chat.reply":
            raise ValueError(f"a chat application may send chat.reply, not {message['type']!r}")
        delivery = self.delivery
        if delivery.redelivered and delivery.id in self._said:
            self.tally = replace(self.tally, repeated=self.tally.repeated + 1)
            return
        user, target, text = scope["user"], message["target"], message["text"]
        self._trace.ran("RedisGateway.application_send")
        where = self._trace.ran("Bot application (in a worker)", Where(**message["where"]))
        self._trace.publish(Chat(user, self.connection.nick, text, where))
        await self.connection.say(target, f"{user}: {text}" if target != user else text)
        self._note_said(delivery.id)
        self._note_user(user, delivery.partition)
        self.tally = replace(self.tally, answered=self.tally.answered + 1)

    def _note_said(self, delivery_id: str) -> None:
        self._said[delivery_id] = None
        if len(self._said) > REMEMBERED_REPLIES:
            self._said.popitem(last=False)

    def _note_user(self, user: str, partition: int | None = None) -> None:
        known = self._users.get(fold(user))
        if partition is not None:
            if known is None or known[1] is not None:
                return  # a user who left meanwhile stays away
        elif known is not None:
            return
        self._users[fold(user)] = (user, partition)
        if len(self._users) > MAX_SCOPES:
            self._users.popitem(last=False)
        self._publish_users()

    def _publish_users(self) -> None:
        self.tally = replace(self.tally, scopes=tuple(self._users.values()))
