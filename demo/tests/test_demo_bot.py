"""The bot as a client of the chat server, and the events that the page gets."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from app.bot import Bot
from app.trace import Kind, Trace
from websockets.asyncio.server import ServerConnection, serve

pytestmark = pytest.mark.asyncio


class CountingBot(Bot):
    """Answers with the number of messages in its scope."""

    def __init__(self, url: str) -> None:
        super().__init__(self.count, url=url, trace=Trace())

    async def count(self, scope: Any, receive: Any, send: Any) -> None:
        where = {"thread": "", "thread_id": 0}
        for count in range(1, 10):
            message = await receive()
            reply = {"type": "chat.reply", "number": message["number"], "text": str(count)}
            await send({**reply, "again": False, "where": where, "stored_at": where})


@asynccontextmanager
async def connections() -> AsyncIterator[asyncio.Queue[ServerConnection]]:
    """Run a bot on a chat server that the test plays; yield the bot's connections."""
    arrived: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def arrive(connection: ServerConnection) -> None:
        arrived.put_nowait(connection)
        await connection.wait_closed()

    async with serve(arrive, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        bot = CountingBot(f"ws://127.0.0.1:{port}/chat")
        running = asyncio.create_task(bot.work(lambda: None))
        yield arrived
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def ask(connection: ServerConnection, *lines: str) -> list[str]:
    for line in lines:
        await connection.send(line)
    return [str(await connection.recv()) for line in lines if not line.startswith("*")]


async def test_each_user_has_a_scope_until_the_user_leaves() -> None:
    async with connections() as arrived:
        lines = ("ann: hi", "ben: hi", "ann: hi", "* ann left", "ann: hi", "ben: hi")
        answers = await ask(await arrived.get(), *lines)
        assert sorted(answers) == ["ann: 1", "ann: 1", "ann: 2", "ben: 1", "ben: 2"]


async def test_scopes_survive_a_lost_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "asgiref.server")
    async with connections() as arrived:
        connection = await arrived.get()
        assert await ask(connection, "ann: hi") == ["ann: 1"]
        await connection.close()
        assert await ask(await arrived.get(), "ann: hi") == ["ann: 2"]


def heard(trace: Trace, *texts: str) -> None:
    for text in texts:
        trace.publish(Kind.NEWS, text=text)


async def test_a_browser_gets_the_past_and_then_the_present_from_any_thread() -> None:
    trace = Trace()
    heard(trace, "past")
    async with aclosing(trace.subscribe()) as events:
        assert [event.number for event in await anext(events)] == [1]
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        thread = threading.Thread(target=heard, args=[trace, "present"])
        thread.start()
        assert [event.number for event in await waiting] == [2]
        thread.join()


async def test_a_browser_that_returns_continues_after_its_last_event() -> None:
    trace = Trace()
    heard(trace, "a", "b", "c")
    trace.close()
    for after, expected in {1: [2, 3], 99: [1, 2, 3]}.items():  # 99 is from an earlier run
        events = [each async for batch in trace.subscribe(after) for each in batch]
        assert [event.number for event in events] == expected
