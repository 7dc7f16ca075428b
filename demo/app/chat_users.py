"""The page's users of the chat: each is a real IRC client in the page's backend.

Rules: everything here runs on uvicorn's event loop. A browser that joins gets a secret random
token, which lets it speak with that nickname. A user who is silent for ``IDLE_SECONDS`` is removed,
because browsers seldom say goodbye.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from .irc import is_nick
from .irc_client import ChatError, IrcClient
from .trace import Heard, Tracer

IDLE_SECONDS = 1800.0
MAX_USERS = 50


@dataclass(slots=True, eq=False)
class ChatUser:
    """A nickname in use by a browser."""

    token: str
    client: IrcClient
    reader: asyncio.Task[None]
    expiry: asyncio.TimerHandle


class ChatUsers:
    """The users of the page, by token."""

    def __init__(
        self, host: str, port: int, channel: str, bot_nick: Callable[[], str], trace: Tracer
    ) -> None:
        self._host, self._port, self._channel = host, port, channel
        self._bot_nick = bot_nick
        self._trace = trace
        self._users: dict[str, ChatUser] = {}

    async def join(self, nick: str) -> ChatUser:
        """Connect to the chat server as ``nick``. Raises ``ChatError`` if that fails."""
        if not is_nick(nick):
            raise ChatError(f"{nick!r} is no nickname: take a letter, then letters, digits or - _")
        if len(self._users) >= MAX_USERS:
            raise ChatError(f"the page keeps {MAX_USERS} users at most; please come back later")
        client = await IrcClient.connect(self._host, self._port, nick, self._channel)
        self._trace.ran("Page's chat users (IRC clients)")
        token = secrets.token_urlsafe(16)
        reader = asyncio.create_task(self._read(token, client), name=f"chat user {client.nick}")
        user = ChatUser(token, client, reader, self._expire_later(token))
        self._users[token] = user
        return user

    async def say(self, token: str, text: str) -> None:
        """Say something to the bot. Raises ``ChatError`` if the token is unknown or expired."""
        user = self._users.get(token)
        if user is None:
            raise ChatError("you are not in the chat (any more): join again")
        user.expiry.cancel()
        user.expiry = self._expire_later(token)
        self._trace.ran("Page's chat users (IRC clients)")
        try:
            await user.client.say(self._bot_nick(), text)
        except OSError:
            raise ChatError("the chat server has closed your connection: join again") from None

    async def leave(self, token: str) -> None:
        """Leave the chat; do nothing if the token is unknown."""
        user = self._users.pop(token, None)
        if user is not None:
            user.expiry.cancel()
            user.reader.cancel()
            await user.client.close()

    async def close(self) -> None:
        """Disconnect all users."""
        await asyncio.gather(*map(self.leave, list(self._users)))

    async def _read(self, token: str, client: IrcClient) -> None:
        """Publish the messages to the user until the connection ends."""
        async for message in client.messages():
            if message.command == "PRIVMSG":
                self._trace.publish(Heard(client.nick, message.nick, message.param(1)))
            elif message.command == "401":
                self._trace.publish(Heard(client.nick, "(server)", message.params[-1]))
        self._trace.publish(Heard(client.nick, "(server)", "The connection has ended."))
        gone = self._users.pop(token, None)
        if gone is not None:
            gone.expiry.cancel()
            await client.close()

    def _expire_later(self, token: str) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(
            IDLE_SECONDS, lambda: loop.create_task(self.leave(token), name="idle chat user")
        )
