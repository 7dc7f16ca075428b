"""A connection to a chat server, for the bot and the page's users.

Rules: a client belongs to the event loop that opened it. Its only reader is ``messages``, which
also answers the server's PINGs, so the owner of a client must keep reading. When the connection
ends, for any reason, ``messages`` ends; if it cannot be opened, ``ChatError`` gives the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from .irc import MAX_LINE, Message, split_text

CONNECT_SECONDS = 15.0
_REFUSALS = frozenset({"ERROR", "432", "433", "436", "437", "463", "464", "465"})


class ChatError(Exception):
    """The chat server is unreachable or refuses a request; the text is for the user."""


class NickTaken(ChatError):
    """Another user has this nickname."""


class IrcClient:
    """A registered IRC connection; make one with ``connect``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.nick = ""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int, nick: str, channel: str = "") -> IrcClient:
        """Connect, register as ``nick``, and join ``channel`` if one is given.

        Raises ``NickTaken`` or ``ChatError``; waits no longer than ``CONNECT_SECONDS``.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(host, port, limit=16 * MAX_LINE)
                client = cls(reader, writer)
                try:
                    await client._register(nick, channel)
                except BaseException:
                    writer.close()
                    raise
                return client
        except TimeoutError:
            raise ChatError(f"the chat server at {host}:{port} does not answer") from None
        except OSError as error:
            # asyncio puts the address in strerror; a failed name look-up has a negative number.
            known = error.errno is not None and error.errno > 0
            reason = os.strerror(error.errno or 0) if known else error.strerror or error
            raise ChatError(
                f"the chat server at {host}:{port} cannot be reached: {reason}"
            ) from None

    async def _register(self, nick: str, channel: str) -> None:
        await self.send("NICK", nick)
        await self.send("USER", "demo", "0", "*", "asgiref demo")
        async for message in self.messages():
            if message.command == "001":
                # The server may have shortened the nickname, so use the name in its reply.
                self.nick = message.param(0)
                if channel:
                    await self.send("JOIN", channel)
                return
            if message.command == "433":
                raise NickTaken(f"the nickname {nick!r} is already in use")
            if message.command in _REFUSALS:
                reason = message.params[-1] if message.params else message.command
                raise ChatError(f"the chat server refuses {nick!r}: {reason}")
        raise ChatError(f"the chat server closed the connection of {nick!r}")

    async def messages(self) -> AsyncIterator[Message]:
        """Yield messages until the connection ends; answer PINGs and do not yield them."""
        with contextlib.suppress(OSError):
            while line := await self._reader.readline():
                try:
                    message = Message.decode(line)
                except ValueError:
                    continue
                if message.command == "PING":
                    await self.send("PONG", *message.params)
                else:
                    yield message

    async def send(self, command: str, *params: str) -> None:
        """Send one command. Raises ``OSError`` if the connection is lost."""
        self._writer.write(Message(command, params).encode())
        await self._writer.drain()

    async def say(self, target: str, text: str) -> None:
        """Send a text to a nickname or channel, in several messages if it is long."""
        for piece in split_text(" ".join(text.split())):
            await self.send("PRIVMSG", target, piece)

    async def close(self, reason: str = "Bye") -> None:
        """Quit; never raises for a connection that is already lost."""
        try:
            with contextlib.suppress(OSError):
                await self.send("QUIT", reason)
        finally:
            self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
