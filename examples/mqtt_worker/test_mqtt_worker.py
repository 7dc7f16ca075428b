"""The worker works with a real mosquitto."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import pytest
from worker import MqttWorker, averages

pytestmark = pytest.mark.asyncio

MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
"""


@asynccontextmanager
async def running(worker: MqttWorker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.arun())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def listener(port: int) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("averages/#", qos=1)
        yield client


async def publish(client: aiomqtt.Client, name: str, value: float) -> None:
    # Retained: the worker gets it although it may not have subscribed yet.
    await client.publish(f"sensors/{name}", str(value), qos=1, retain=True)


async def next_average(client: aiomqtt.Client) -> tuple[str, str]:
    message = await anext(client.messages)
    return str(message.topic), bytes(message.payload).decode()


async def test_each_topic_has_a_scope_and_no_message_is_lost(start_server: Any) -> None:
    server = start_server("mosquitto", MOSQUITTO, "running")
    worker = MqttWorker(averages, "127.0.0.1", server.port)
    async with listener(server.port) as client, running(worker):
        for name in ("kitchen", "attic"):
            await publish(client, name, 0)
            assert await next_average(client) == (f"averages/{name}", "0 of 1")
        for number in range(1, 300):
            for name in ("kitchen", "attic"):
                await client.publish(f"sensors/{name}", number, qos=1)
        heard = [await next_average(client) for _ in range(2 * 299)]
        for name in ("kitchen", "attic"):
            assert [text for topic, text in heard if topic == f"averages/{name}"] == [
                f"{number / 2:g} of {number + 1}" for number in range(1, 300)
            ]
        assert sorted(worker.application_instances) == ["sensors/attic", "sensors/kitchen"]


async def test_the_worker_and_its_scopes_survive_a_broker_restart(
    start_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker also publishes an average that was not ready before the restart."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        async def send_later(message: Any) -> None:
            if message["payload"].endswith("of 2"):
                waiting.set()
                await go_on.wait()
            await send(message)

        await averages(scope, receive, send_later)

    waiting, go_on = asyncio.Event(), asyncio.Event()
    server = start_server("mosquitto", MOSQUITTO, "running")
    caplog.set_level(logging.CRITICAL)
    async with running(MqttWorker(slow, "127.0.0.1", server.port)):
        async with listener(server.port) as client:
            await publish(client, "kitchen", 10)
            assert await next_average(client) == ("averages/kitchen", "10 of 1")
            await publish(client, "kitchen", 20)
            await waiting.wait()
            await asyncio.to_thread(server.stop)
            with pytest.raises(aiomqtt.MqttError):
                await next_average(client)
        await asyncio.to_thread(server.start)
        async with listener(server.port) as client:
            go_on.set()
            assert await next_average(client) == ("averages/kitchen", "15 of 2")
            await publish(client, "kitchen", 30)
            assert await next_average(client) == ("averages/kitchen", "20 of 3")
