"""The chatbot: a server that makes one connection *to* a chat server, with one scope per user.

``handle`` turns each line into a message in the queue of its user's scope, and ``application_send``
turns each reply into a line. `Bot` runs the scopes itself; `FleetBot` is the same bot, except that
PostgreSQL carries messages and replies to and from worker processes.

Invariants: a user's scope ends when the user leaves. Scopes survive a lost connection, and replies
wait until the bot is back. The chat sees each answer once: a redelivered message may be answered
twice, so the numbers of answered messages are kept for a while.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from asgiref.postgres import PostgresGateway
from asgiref.server import Reconnect, StatelessServer

from . import Event, Scope
from .trace import Trace, Where

NICK = "guessbot"
_KEPT_ANSWERS = 10_000


class Bot(StatelessServer):
    """The bot; ``url`` is the chat server's, and further arguments are those of the base class.

    ``scopes`` has the live scopes by the name of their user. ``tally`` has the number of messages,
    answers, answers to redelivered messages, and those of them that the chat had already seen.
    """

    base = "StatelessServer"

    def __init__(self, *arguments: Any, url: str, trace: Trace, **options: Any) -> None:
        self._reconnect = Reconnect(max_delay=5.0)
        super().__init__(*arguments, reconnect=self._reconnect, **options)
        self._url, self._trace = url, trace
        self._socket: ClientConnection
        self._connected = asyncio.Event()
        self._ready: Callable[[], None]
        self._answered: deque[int] = deque(maxlen=_KEPT_ANSWERS)
        self.scopes: dict[str, Scope] = {}
        self.tally = dict.fromkeys(("asked", "answered", "redelivered", "repeated"), 0)

    async def work(self, ready: Callable[[], None]) -> None:
        """Run until cancelled; call ``ready`` once the bot is in the chat."""
        self._ready = ready
        await self.arun()

    async def handle(self) -> None:
        """Talk to the chat server until the connection is lost; the base class calls this again."""
        async with connect(f"{self._url}?nick={NICK}") as self._socket:
            self._reconnect.established()
            self._connected.set()
            self._ready()
            async for line in self._socket:
                await self._hear(str(line))

    async def _hear(self, line: str) -> None:
        if line.startswith("*"):
            _, user, event = line.split(" ", 2)
            if event == "left" and (scope := self.scopes.pop(user.lower(), None)):
                await self._put(scope, {"type": "chat.left"})
            return
        user, _, text = line.partition(": ")
        where = self._trace.ran(f"{self.base}.handle")
        self._trace.publish("chat", user=user, speaker=user, text=text, where=asdict(where))
        new = {"type": "chat", "user": user, "game": f"{user}:{secrets.token_hex(4)}"}
        scope = self.scopes.setdefault(user.lower(), new)
        self.tally["asked"] += 1
        message = {"type": "chat.message", "text": text, "number": self.tally["asked"]}
        await self._put(scope, message)

    async def _put(self, scope: Scope, message: Event) -> None:
        await self.get_or_create_application_instance(scope["game"], scope).put(message)

    async def application_send(self, scope: Any, message: Any) -> None:
        """Send a reply to the chat server, unless the chat has already seen it."""
        self.tally["redelivered"] += message["again"]
        if message["number"] in self._answered:
            self.tally["repeated"] += 1
            return
        where = self._trace.ran("Bot application (one task per user)", Where(**message["where"]))
        self._trace.ran("Game in SQLite (sync_to_async)", Where(**message["stored_at"]))
        user, text = scope["user"], message["text"]
        self._trace.publish("chat", user=user, speaker=NICK, text=text, where=asdict(where))
        await self._say(f"{user}: {text}")
        self._answered.append(message["number"])
        self.tally["answered"] += 1

    async def _say(self, line: str) -> None:
        while True:
            await self._connected.wait()
            socket = self._socket
            try:
                return await socket.send(line)
            except ConnectionClosed:
                if socket is self._socket:
                    self._connected.clear()  # until ``handle`` has connected again


class FleetBot(Bot, PostgresGateway):
    """The same bot for scopes in worker processes."""

    base = "PostgresGateway"
