"""The same chatbot with ``--workers``: a ``PostgresGateway``, whose scopes run in other processes.

It keeps the connection to the chat server and runs no application. It stores each line in the
database before it reads the next one; ``application_send`` gets the replies of workers.

Rules: as in ``bot``. The gateway cannot delete a scope, so when a user leaves, it sends the message
``chat.left``, and the application ends itself. A redelivered message gets another, marked answer;
the chat must see each answer once, so the numbers of answered messages are kept for a while.
``tally`` is replaced, never mutated, so that other threads may read it.
"""

from __future__ import annotations

import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from asgiref.postgres import Database, PostgresGateway

from .bot import MAX_SCOPES
from .bot_connection import BotConnection, Line
from .game import Event, Scope
from .irc import fold
from .trace import Chat, Tracer, Where

REMEMBERED_ANSWERS = 10_000


@dataclass(frozen=True, slots=True)
class Tally:
    """The traffic of the gateway.

    ``users`` have talked and not left. ``redelivered`` counts answers to redelivered messages, and
    ``repeated`` those of them that the bot had already said.
    """

    users: tuple[str, ...] = ()
    asked: int = 0
    answered: int = 0
    redelivered: int = 0
    repeated: int = 0


class FleetBot(PostgresGateway):
    """Carries lines to the workers' scopes, and their replies back."""

    name = "bot"

    def __init__(self, database: Database, trace: Tracer, connection: BotConnection) -> None:
        super().__init__(database, name="the demo's gateway")
        self.connection = connection
        self.tally = Tally()
        self._trace = trace
        self._ready: Callable[[], None] = lambda: None
        # Unique for each run of the demo, because several runs may use the same files.
        self.run_mark = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._users: OrderedDict[str, str] = OrderedDict()
        self._said: OrderedDict[int, None] = OrderedDict()

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Run on this thread; call ``ready`` once the bot has joined the chat."""
        self._ready = ready
        self.run()

    def stop(self) -> None:
        """Ask the bot to say goodbye and end; safe from any thread."""
        self.connection.stop()

    async def handle(self) -> None:
        """Talk to the chat server until ``stop``; ``run`` returns when this returns."""
        await self.connection.run(self._ready, self._hear, self._forget)

    async def _hear(self, line: Line) -> None:
        where = self._trace.ran("PostgresGateway.handle")
        self._trace.publish(Chat(line.user, line.user, line.text.strip(), where))
        self._note_user(line.user)
        self._count(asked=1)
        await self._store(
            line.user, {"type": "chat.message", "text": line.text, "target": line.target}
        )

    async def _forget(self, user: str) -> None:
        if self._users.pop(fold(user), None) is not None:
            self.tally = replace(self.tally, users=tuple(self._users.values()))
            await self._store(user, {"type": "chat.left"})

    async def _store(self, user: str, message: Event) -> None:
        scope = {"type": "chat", "user": user, "run": self.run_mark}
        await self.store(fold(user), scope, {**message, "number": next(self._numbers)})

    async def application_send(self, scope: Scope, message: Event) -> None:
        """Send a reply to the chat server, unless the bot has already said it."""
        if message["type"] != "chat.reply":
            raise ValueError(f"a chat application may send chat.reply, not {message['type']!r}")
        if self.delivery.redelivered:
            self._count(redelivered=1)
            if message["answers"] in self._said:
                self._count(repeated=1)
                return
        user, target, text = scope["user"], message["target"], message["text"]
        self._trace.ran("PostgresGateway.application_send")
        where = self._trace.ran("Bot application (in a worker)", Where(**message["where"]))
        self._trace.publish(Chat(user, self.connection.nick, text, where))
        await self.connection.say(target, f"{user}: {text}" if target != user else text)
        self._note_said(message["answers"])
        self._count(answered=1)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self.tally, name) + number for name, number in more.items()}
        self.tally = replace(self.tally, **counts)

    def _note_said(self, number: int) -> None:
        self._said[number] = None
        if len(self._said) > REMEMBERED_ANSWERS:
            self._said.popitem(last=False)

    def _note_user(self, user: str) -> None:
        if fold(user) in self._users:
            return
        self._users[fold(user)] = user
        if len(self._users) > MAX_SCOPES:
            self._users.popitem(last=False)
        self.tally = replace(self.tally, users=tuple(self._users.values()))
