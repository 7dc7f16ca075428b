"""The chatbot works on a real ngircd."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import irctokens
import pytest
from chatbot import IrcChatbot, parrot

pytestmark = pytest.mark.asyncio

NGIRCD = """
[Global]
Name = irc.test.example
Info = only for a test
Listen = 127.0.0.1
Ports = {port}
MotdPhrase = welcome
[Limits]
MaxConnectionsIP = 0
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
"""


class User:
    """A user of the IRC server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def join(cls, port: int, nick: str) -> "User":
        """Join the channel, and wait until the bot has joined it too."""
        user = cls(*await asyncio.open_connection("127.0.0.1", port))
        await user.send("NICK", nick)
        await user.send("USER", nick, "0", "*", nick)
        await user.next("001")
        await user.send("JOIN", "#x")
        if not await user.sees("bot"):
            while (await user.next("JOIN"))[0] != "bot":
                pass
        return user

    async def send(self, command: str, *params: str) -> None:
        line = irctokens.build(command, list(params)).format()
        self._writer.write(f"{line}\r\n".encode())
        await self._writer.drain()

    async def next(self, command: str) -> tuple[str, ...]:
        """Return the sender and the parameters of the next message of that kind."""
        while data := await self._reader.readline():
            line = irctokens.tokenise(data)
            if line.command == "PING":
                await self.send("PONG", *line.params)
            elif line.command == command:
                return line.hostmask.nickname, *line.params
        raise AssertionError("the connection ended")

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def sees(self, nick: str) -> bool:
        names = (await self.next("353"))[4]
        return nick in names.replace("@", "").split()

    async def hears(self) -> str:
        """Return the bot's next message."""
        while True:
            nick, _, text = await self.next("PRIVMSG")
            if nick == "bot":
                return text

    async def says(self, text: str, target: str = "bot") -> None:
        await self.send("PRIVMSG", target, text)


@asynccontextmanager
async def running(bot: IrcChatbot) -> AsyncIterator[None]:
    task = asyncio.create_task(bot.arun())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_user_has_one_scope_in_the_channel_and_in_private(
    start_server: Any,
) -> None:
    server = start_server("ngircd", NGIRCD, "Now listening")
    bot = IrcChatbot(parrot, "127.0.0.1", server.port)
    async with running(bot):
        ann, bob = [await User.join(server.port, nick) for nick in ("ann", "bob")]
        await ann.says("hello")
        assert await ann.hears() == "1. hello"
        await bob.says("bot: hi", "#x")
        assert await bob.hears() == "bob: 1. hi"
        assert await ann.hears() == "bob: 1. hi"
        await ann.says("bot: me again", "#x")
        assert await ann.hears() == "ann: 2. me again"
        assert await bob.hears() == "ann: 2. me again"
        assert list(bot.application_instances) == ["bob", "ann"]
        await ann.leave()
        await bob.leave()


async def test_no_message_in_a_conversation_is_lost(start_server: Any) -> None:
    async def talk(user: User) -> list[str]:
        async def say_all() -> None:
            for number in range(200):
                await user.says(f"line {number}")

        async with asyncio.TaskGroup() as group:
            group.create_task(say_all())
            return [await user.hears() for _ in range(200)]

    server = start_server("ngircd", NGIRCD, "Now listening")
    async with running(IrcChatbot(parrot, "127.0.0.1", server.port)):
        users = [await User.join(server.port, nick) for nick in ("ann", "bob")]
        for heard in await asyncio.gather(*map(talk, users)):
            assert heard == [f"{number + 1}. line {number}" for number in range(200)]
        for user in users:
            await user.leave()


async def test_the_bot_and_its_scopes_survive_a_server_restart(
    start_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The bot also sends an answer that was not ready before the restart."""

    async def thoughtful(scope: Any, receive: Any, send: Any) -> None:
        async def think_first(message: Any) -> None:
            if "ponder" in message["text"]:
                pondering.set()
                await answer_now.wait()
            await send(message)

        await parrot(scope, receive, think_first)

    pondering, answer_now = asyncio.Event(), asyncio.Event()
    server = start_server("ngircd", NGIRCD, "Now listening")
    caplog.set_level(logging.CRITICAL, "asgiref.server")
    async with running(IrcChatbot(thoughtful, "127.0.0.1", server.port)):
        ann = await User.join(server.port, "ann")
        await ann.says("hello")
        assert await ann.hears() == "1. hello"
        await ann.says("ponder")
        await pondering.wait()
        await asyncio.to_thread(server.stop)
        await ann.leave()
        await asyncio.to_thread(server.start)
        ann = await User.join(server.port, "ann")
        answer_now.set()
        assert await ann.hears() == "2. ponder"
        await ann.says("hello again")
        assert await ann.hears() == "3. hello again"
        await ann.leave()
