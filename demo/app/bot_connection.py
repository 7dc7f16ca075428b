"""The bot's connection to the chat server, which reconnects when it is lost.

The connection only passes lines on: ``heard`` gets each line for the bot, and ``left`` each
nickname that has become free. Both are awaited, so a slow callback slows down the reading, and with
it the chat server.

Rules: a connection belongs to the event loop that runs ``run``; other threads may only call
``stop``. If the first attempt to connect fails, ``run`` raises ``ChatError``. After a later loss it
tries again, and outgoing lines wait until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .irc import Message, fold
from .irc_client import ChatError, IrcClient, NickTaken
from .trace import Tracer

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 30.0
SAID_AT_THE_END = frozenset({"NOTICE", "ERROR"})
"""The commands that a server sends while it shuts down, besides the QUITs of its users."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line from ``user`` to the bot; the answer goes to ``target``, a nickname or a channel."""

    user: str
    target: str
    text: str


class BotConnection:
    """Keeps ``nick`` on the chat server and in ``channel`` until ``stop``.

    Every private message is a line for the bot; in the channel, only messages such as ``nick: 50``.
    """

    def __init__(self, host: str, port: int, nick: str, channel: str, trace: Tracer) -> None:
        self.nick = nick
        self.channel = channel
        self._host, self._port = host, port
        self._trace = trace
        self._client: IrcClient | None = None
        self._connected = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._heard: Callable[[Line], Awaitable[None]]
        self._left: Callable[[str], Awaitable[None]]

    async def run(
        self,
        ready: Callable[[], None],
        heard: Callable[[Line], Awaitable[None]],
        left: Callable[[str], Awaitable[None]],
    ) -> None:
        """Talk to the chat server until ``stop``; call ``ready`` once the bot has joined."""
        self._heard, self._left = heard, left
        self._loop = asyncio.get_running_loop()
        self._trace.name_loop("the bot's loop")
        work = asyncio.create_task(self._keep_connected(ready), name="bot connection")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work  # it ends by itself only with an exception
        finally:
            work.cancel()
            stopping.cancel()
            await self._say_goodbye(work, stopping)

    def stop(self) -> None:
        """Ask ``run`` to say goodbye and return; safe from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: ``run`` has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def say(self, target: str, text: str) -> None:
        """Send a text now, or once a lost connection is back."""
        while True:
            await self._connected.wait()
            client = self._client
            try:
                if client is not None:
                    await client.say(target, text)
                return
            except OSError:
                if client is self._client:  # the loss has not been noticed yet
                    self._connected.clear()

    async def try_to_say(self, target: str, text: str) -> None:
        """Send a text if there is a connection; drop it otherwise."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                await self._client.say(target, text)

    async def _say_goodbye(self, *tasks: asyncio.Task[Any]) -> None:
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # even if cancelled a second time
            client, self._client = self._client, None
            if client is not None:
                await client.close("The demo ends")

    async def _keep_connected(self, ready: Callable[[], None]) -> None:
        self._client = await self._connect()
        self._connected.set()
        ready()
        while True:
            lost = self._client
            await self._listen(lost)
            self._connected.clear()
            self._client = None
            await lost.close()
            logger.warning("the bot lost the chat server and tries to come back")
            self._client = await self._reconnect()
            self._connected.set()
            logger.warning("the bot is back on the chat server as %s", self.nick)

    async def _connect(self) -> IrcClient:
        """Connect as ``nick``, or as nick2, nick3, ... if the nickname is taken."""
        for number in itertools.count(1):
            suffix = "" if number == 1 else str(number)
            nick = self.nick[: 9 - len(suffix)] + suffix if suffix else self.nick
            try:
                client = await IrcClient.connect(self._host, self._port, nick, self.channel)
            except NickTaken:
                if number == 5:
                    raise
            else:
                self.nick = client.nick
                return client
        raise AssertionError("unreachable")

    async def _reconnect(self) -> IrcClient:
        wait = 0.5
        while True:
            await asyncio.sleep(wait)
            try:
                return await self._connect()
            except ChatError as error:
                wait = min(2 * wait, MAX_WAIT_SECONDS)
                logger.warning("%s; the bot tries again in %g seconds", error, wait)

    async def _listen(self, client: IrcClient) -> None:
        gone: list[str] = []
        async for message in client.messages():
            if message.command == "QUIT":
                gone.append(message.nick)
                continue
            if message.command not in SAID_AT_THE_END:
                # The server is alive, so these users left: other users may take their nicknames
                # and with them the names of their scopes. (When the server itself goes down, users
                # who return afterwards keep their scopes.)
                while gone:
                    await self._left(gone.pop())
            if message.command == "PRIVMSG" and fold(message.nick) != fold(self.nick):
                await self._hear(message)
            elif message.command == "NICK":
                await self._left(message.nick)

    async def _hear(self, message: Message) -> None:
        user, target, text = message.nick, message.param(0), message.param(1)
        if fold(target) == fold(self.nick):
            target = user
        else:
            addressed, colon, text = text.partition(":")
            if not colon or fold(addressed.strip()) != fold(self.nick):
                return
        await self._heard(Line(user, target, text))
