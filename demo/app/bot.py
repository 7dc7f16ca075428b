"""The chatbot: a ``StatelessServer`` that connects out to a chat server.

``StatelessServer`` keeps one running application, a scope, per user: ``handle`` turns each line
that comes from the chat server into an event in the queue of its user's scope, and
``application_send`` turns what an application sends into a line back. The chat server is the only
socket, and it is one that the bot opened itself.

Rules: the bot owns a thread and, through ``StatelessServer.run``, an event loop on it; only
``stop`` may be called from elsewhere. The first connection must succeed, or ``handle`` raises
``ChatError``; later losses are answered with new attempts, and the scopes outlive them: what an
application says in between waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.server import StatelessServer

from .game import Event, Receive, Scope, Send
from .irc import Message, fold
from .irc_client import ChatError, IrcClient, NickTaken
from .trace import Chat, Tracer

logger = logging.getLogger(__name__)

MAX_SCOPES = 500
MAX_WAIT_SECONDS = 30.0
SAID_AT_THE_END = frozenset({"NOTICE", "ERROR"})
"""What a server that goes down still says, besides the QUITs of its users."""


class ChatBot(StatelessServer):
    """Serves ``application`` to everybody who talks to ``nick`` on the chat server.

    A private message goes to the sender's scope; in ``channel`` only lines like ``nick: 50`` do.
    A user's scope ends when the user leaves, or when ``MAX_SCOPES`` others have talked since.
    """

    name = "bot"

    def __init__(
        self,
        application: Callable[[Scope, Receive, Send], Any],
        trace: Tracer,
        *,
        host: str,
        port: int,
        nick: str = "guessbot",
        channel: str = "#asgiref",
    ) -> None:
        super().__init__(application, max_applications=MAX_SCOPES)
        self.nick = nick
        self.channel = channel
        self._host, self._port = host, port
        self._trace = trace
        self._client: IrcClient | None = None
        self._connected = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready: Callable[[], None] = lambda: None

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Run on this thread; calls ``ready`` when the bot first hears and is heard."""
        self._ready = ready
        self.run()

    def stop(self) -> None:
        """Ask the bot to say goodbye and end; safe from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    # What StatelessServer asks for

    async def handle(self) -> None:
        """Talk to the chat server until ``stop``; when this returns, ``run`` does."""
        self._loop = asyncio.get_running_loop()
        self._trace.name_loop("the bot's loop")
        work = asyncio.create_task(self._keep_connected(), name="bot connection")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work  # it ends by itself only with an exception
        finally:
            work.cancel()
            stopping.cancel()
            await self._say_goodbye(work, stopping)

    async def _say_goodbye(self, *tasks: asyncio.Task[Any]) -> None:
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # even if cancelled a second time
            client, self._client = self._client, None
            if client is not None:
                await client.close("The demo ends")

    async def application_send(self, scope: Scope, message: Event) -> None:
        """Carry an application's reply to the chat server. Runs in the task of that application."""
        if message["type"] != "chat.reply":
            raise ValueError(f"a chat application may send chat.reply, not {message['type']!r}")
        user, target, text = scope["user"], message["target"], message["text"]
        where = self._trace.ran("StatelessServer.application_send")
        self._trace.publish(Chat(user, self.nick, text, where))
        await self._say(target, f"{user}: {text}" if target != user else text)

    async def _say(self, target: str, text: str) -> None:
        """Say it now, or once the connection is back if it is lost."""
        while True:
            await self._connected.wait()
            client = self._client
            try:
                if client is not None:
                    await client.say(target, text)
                return
            except OSError:
                if client is self._client:  # the loss is yet to be noticed
                    self._connected.clear()

    async def application_exception(
        self, exception: BaseException, application_details: Mapping[str, Any]
    ) -> None:
        """Log an application's failure and tell its user; the next message starts a new scope."""
        user = application_details["scope"]["user"]
        logger.error("the application of %s failed", user, exc_info=exception)
        if self._client is not None:
            with contextlib.suppress(OSError):
                await self._client.say(user, "Something broke. Let us start over: say new.")

    # The connection

    async def _keep_connected(self) -> None:
        self._client = await self._connect()
        self._connected.set()
        self._ready()
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
        """Connect as ``nick``, or as nick2, nick3, ... if others came first."""
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
                # The server lives, so they left by themselves: a nickname is free for somebody
                # else from now on, and so is its scope's name. (A server that goes down takes
                # everybody along, but whoever comes back afterwards talks on.)
                while gone:
                    self._forget(gone.pop())
            if message.command == "PRIVMSG" and fold(message.nick) != fold(self.nick):
                self._hear(message)
            elif message.command == "NICK":
                self._forget(message.nick)

    def _hear(self, message: Message) -> None:
        user, target, text = message.nick, message.param(0), message.param(1)
        if fold(target) == fold(self.nick):
            target = user
        else:
            addressed, colon, text = text.partition(":")
            if not colon or fold(addressed.strip()) != fold(self.nick):
                return
        where = self._trace.ran("StatelessServer.handle")
        self._trace.publish(Chat(user, user, text.strip(), where))
        queue = self.get_or_create_application_instance(fold(user), {"type": "chat", "user": user})
        queue.put_nowait({"type": "chat.message", "text": text, "target": target})

    def _forget(self, user: str) -> None:
        if fold(user) in self.application_instances:
            self.delete_application_instance(fold(user))
