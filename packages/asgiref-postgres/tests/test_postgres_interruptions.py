"""Cancellations, evictions, losses and open transactions at awkward moments."""

import asyncio
import contextlib
from typing import Any

import pytest
from chat import Chat, until, with_workers

from asgiref.postgres import PostgresWorker

pytestmark = pytest.mark.asyncio

#: No test waits longer for something that should happen.
SECONDS = 30.0


async def test_a_message_for_an_instance_that_is_evicted_before_it_receives_starts_the_next_one(
    database: str,
) -> None:
    gateway = Chat(database)
    is_deaf = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send({"type": "chat.say", "text": message["text"]})
        if message["text"] == "one":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await receive()  # acknowledges the message
            is_deaf.set()
            await asyncio.get_running_loop().create_future()

    worker = PostgresWorker(application, database, max_applications=1)

    async def has_read_the_second() -> bool:
        return worker.counts.read == 2

    async def body() -> None:
        await gateway.say("ada", "one")
        assert await gateway.next_text() == "one"
        await is_deaf.wait()
        await gateway.say("ada", "two")
        await until(has_read_the_second)
        await gateway.say("bob", "three")
        async with asyncio.timeout(SECONDS):
            assert {await gateway.next_text() for _ in range(2)} == {"two", "three"}

    await with_workers(gateway, [worker], body)
