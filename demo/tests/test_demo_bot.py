"""The bot as a client of the chat server, and the events that the page gets."""

import asyncio
import logging
from typing import Any

import pytest
from app.bot import Bot
from app.trace import Trace
from websockets.asyncio.server import ServerConnection, serve


async def count(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of messages in this scope."""
    where = {"thread": "", "thread_id": 0}
    for number in range(1, 10):
        message = await receive()
        reply = {"type": "chat.reply", "number": message["number"], "text": str(number)}
        await send({**reply, "again": False, "where": where, "stored_at": where})


@pytest.mark.asyncio
async def test_scopes_survive_a_lost_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "asgiref.server")
    answers: asyncio.Queue[str] = asyncio.Queue()

    async def chat(connection: ServerConnection) -> None:
        await connection.send("ann: hi")
        answers.put_nowait(str(await connection.recv()))  # and close the connection

    async with serve(chat, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        bot = Bot(count, url=f"ws://127.0.0.1:{port}/chat", trace=Trace())
        running = asyncio.create_task(bot.work(lambda: None))
        assert [await answers.get() for _ in range(2)] == ["ann: 1", "ann: 2"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_browser_that_returns_continues_after_its_last_event() -> None:
    trace = Trace()
    for text in "abc":
        trace.publish("news", text=text)
    for after, expected in {1: [2, 3], 3: [], 99: [1, 2, 3]}.items():  # 99 is from an earlier run
        assert [event.number for event in trace.since(after)] == expected
