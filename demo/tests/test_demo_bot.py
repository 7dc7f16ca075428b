"""The bot on the embedded chat server: one scope for each user, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from app.bot import ChatBot
from app.bot_connection import BotConnection
from app.game import Event, Receive, Scope, Send
from app.irc_client import ChatError, IrcClient, NickTaken
from app.irc_server import IrcServer
from app.trace import Trace

pytestmark = pytest.mark.asyncio


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """Count the messages of the scope; fail on request."""
    count = 0
    while True:
        message = await receive()
        if message["text"].strip() == "break":
            raise RuntimeError("told to break")
        count += 1
        reply: Event = {"type": "chat.reply", "text": f"{scope['user']} {count}"}
        await send({**reply, "target": message["target"]})


class Room:
    """A chat server that the bot has joined."""

    def __init__(self, server: IrcServer, bot: ChatBot) -> None:
        self.server, self.bot = server, bot
        self._talkers: list[Talker] = []

    async def join(self, nick: str, channel: str = "") -> Talker:
        client = await IrcClient.connect("127.0.0.1", self.server.port, nick, channel)
        self._talkers.append(Talker(client))
        return self._talkers[-1]

    async def close(self) -> None:
        for talker in self._talkers:
            await talker.client.close()


class Talker:
    """A user of the chat."""

    def __init__(self, client: IrcClient) -> None:
        self.client = client
        self._messages = client.messages()

    async def hear(self, command: str = "PRIVMSG") -> tuple[str, ...]:
        async for message in self._messages:
            if message.command == command:
                return message.params
        raise AssertionError("the connection ended")

    async def see_two_members(self) -> None:
        """Wait until another user is in the channel too."""
        names = ""
        while len(names.split()) < 2:
            await self.client.send("NAMES", "#x")
            names = (await self.hear("353"))[3]

    async def ask(self, text: str, target: str = "bot") -> str:
        await self.client.say(target, text)
        return (await self.hear())[1]


@asynccontextmanager
async def room(application: Any = counting, nick: str = "bot") -> AsyncIterator[Room]:
    trace = Trace()
    server = IrcServer(trace)
    port = await server.start()
    bot = ChatBot(application, trace, BotConnection("127.0.0.1", port, nick, "#x", trace))
    running = asyncio.create_task(bot.arun())
    here = Room(server, bot)
    watcher = await here.join("watcher", "#x")
    await watcher.see_two_members()
    try:
        yield here
    finally:
        bot.stop()
        await running
        await here.close()
        await server.close()


async def test_each_user_has_a_scope_of_its_own() -> None:
    async with room() as here:
        ann, bob = await here.join("ann"), await here.join("bob")
        answers = [await user.ask("hi") for user in (ann, bob, ann, ann, bob)]
        assert answers == ["ann 1", "bob 1", "ann 2", "ann 3", "bob 2"]


async def test_in_a_channel_the_bot_answers_when_named() -> None:
    async with room() as here:
        ann, bob = await here.join("ann", "#x"), await here.join("bob", "#x")
        await ann.client.say("#x", "hello everybody")
        assert await ann.ask("BOT: hello", "#x") == "ann: ann 1"
        assert [(await bob.hear())[1] for _ in range(3)] == [
            "hello everybody",
            "BOT: hello",
            "ann: ann 1",
        ]


async def test_a_scope_ends_when_its_user_leaves() -> None:
    async with room() as here:
        ann, bob = await here.join("ann", "#x"), await here.join("bob", "#x")
        assert [await ann.ask("hi") for _ in range(2)] == ["ann 1", "ann 2"]
        await ann.client.close()
        await bob.hear("QUIT")
        again = await here.join("ann", "#x")
        assert await again.ask("hi") == "ann 1"


async def test_a_nickname_that_changes_takes_no_scope_along() -> None:
    async with room() as here:
        ann = await here.join("ann", "#x")
        assert await ann.ask("hi") == "ann 1"
        await ann.client.send("NICK", "eve")
        assert await ann.ask("hi") == "eve 1"
        other = await here.join("ann", "#x")
        assert await other.ask("hi") == "ann 1"


async def test_an_application_that_breaks_harms_its_own_user_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with room() as here:
        ann, bob = await here.join("ann"), await here.join("bob")
        assert [await ann.ask("hi"), await bob.ask("hi")] == ["ann 1", "bob 1"]
        with caplog.at_level(logging.CRITICAL, "app.bot"):
            assert "Something broke" in await ann.ask("break")
        assert [await ann.ask("hi"), await bob.ask("hi")] == ["ann 1", "bob 2"]


async def test_the_bot_takes_another_nickname_when_its_own_is_in_use() -> None:
    async with room(nick="watcher") as here:
        assert here.bot.connection.nick == "watcher2"


async def test_the_bot_comes_back_when_the_chat_server_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with room() as here:
        port = here.server.port
        ann = await here.join("ann")
        assert await ann.ask("hi") == "ann 1"
        with caplog.at_level(logging.CRITICAL, "app.bot_connection"):
            await here.server.close()
            await here.server.start(port=port)
            ann = await here.join("ann", "#x")
            await ann.see_two_members()
        assert await ann.ask("hi") == "ann 2"


async def test_no_chat_server_is_an_error_that_names_it() -> None:
    server = IrcServer(Trace())
    port = await server.start()
    await server.close()
    trace = Trace()
    bot = ChatBot(counting, trace, BotConnection("127.0.0.1", port, "bot", "#x", trace))
    with pytest.raises(ChatError, match=f"127.0.0.1:{port} cannot be reached"):
        await bot.arun()


async def test_a_user_is_told_that_a_nickname_is_taken() -> None:
    async with room() as here:
        with pytest.raises(NickTaken, match="'Bot' is already in use"):
            await here.join("Bot")
