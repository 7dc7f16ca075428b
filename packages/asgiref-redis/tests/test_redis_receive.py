"""A ``receive()`` that is given up in the moment in which a message comes: none is acknowledged
that the application has not seen, none is seen twice, and they stay in order."""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from pieces import Gateway, running, until, worker
from real_redis import RealRedis

from asgiref.redis import RedisWorker
from asgiref.redis._attempts import Inheritance
from asgiref.redis._keys import PartitionKeys
from asgiref.redis._line import Entry
from asgiref.redis._partition import Partition

pytestmark = pytest.mark.asyncio

MESSAGES = 3000
#: Seconds. None of them, or so few that the time is over in the same turns of the event loop.
TIMES = (0, 1e-9, 1e-6, 1e-5, 3e-5, 1e-4)

Receive = Callable[[], Awaitable[Any]]


async def turns(most: int) -> None:
    """Let the event loop turn a random number of times."""
    for _ in range(random.randrange(most)):
        await asyncio.sleep(0)


async def wait_for(receive: Receive) -> Any:
    return await asyncio.wait_for(receive(), random.choice(TIMES))


async def timeout(receive: Receive) -> Any:
    async with asyncio.timeout(random.choice(TIMES)):
        return await receive()


async def timeout_that_is_rescheduled(receive: Receive) -> Any:
    async with asyncio.timeout(10) as limit:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, limit.reschedule, 0)
        return await receive()


async def move_on_after(receive: Receive) -> Any:
    with anyio.move_on_after(random.choice(TIMES)):
        return await receive()
    raise TimeoutError


async def cancelled_task(receive: Receive) -> Any:
    task = asyncio.ensure_future(receive())
    await turns(6)
    task.cancel()
    return await task


async def cancelled_wait_for(receive: Receive) -> Any:
    async def patient() -> Any:
        return await asyncio.wait_for(receive(), 10)

    task = asyncio.ensure_future(patient())
    await turns(6)
    task.cancel()
    return await task


async def wait_for_in_a_timeout(receive: Receive) -> Any:
    async with asyncio.timeout(random.choice(TIMES)):
        return await asyncio.wait_for(receive(), random.choice(TIMES[1:]))


WAYS = [
    wait_for,
    timeout,
    timeout_that_is_rescheduled,
    move_on_after,
    cancelled_task,
    cancelled_wait_for,
    wait_for_in_a_timeout,
]


class Seen:
    """An application that gives up every other ``receive()``, and what it has seen."""

    def __init__(self, way: Callable[[Receive], Awaitable[Any]]) -> None:
        self._way = way
        self.numbers: list[int] = []
        self.given_up = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            try:
                message = await self._way(receive)
            except (TimeoutError, asyncio.CancelledError):
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.given_up += 1
                await asyncio.sleep(0)
            else:
                self.numbers.append(message["number"])


class PartitionWithoutRedis(Partition):
    """Remembers what is acknowledged."""

    acknowledged: list[int]

    def acknowledge(self, entry: Entry) -> None:
        super().acknowledge(entry)
        self.acknowledged.append(entry.message["number"])


def partition_of(server: RedisWorker) -> PartitionWithoutRedis:
    host, held = server._host, dict[int, Partition]()
    host.connect(lambda _: None, lambda _: None, held)
    keys = PartitionKeys.of("connection", 0).group("group")
    nothing = Inheritance((0, 0), (0, 0), {})
    made = PartitionWithoutRedis(keys, "1:me", nothing, float("inf"), server._settings, host)
    made.acknowledged = []
    held[0] = made
    return made


@pytest.mark.parametrize("way", WAYS)
async def test_no_message_is_acknowledged_that_was_not_seen(way: Any) -> None:
    application = Seen(way)
    server = worker(application, "redis://nowhere", "connection")
    partition = partition_of(server)
    for number in range(MESSAGES):
        fields = {"type": "say", "number": number}
        entry = {b"i": b"ada", b"s": b'{"type":"test"}', b"m": json.dumps(fields).encode()}
        partition.receive(f"{number + 1}-0", entry)
        while len(application.numbers) <= number:
            await asyncio.sleep(0)
            assert partition.acknowledged == application.numbers[: len(partition.acknowledged)]
        await turns(6)
    assert application.numbers == list(range(MESSAGES))
    assert application.given_up > 10
    future = server.application_instances["ada"].future
    server.delete_application_instance("ada")
    with contextlib.suppress(asyncio.CancelledError, RuntimeError):  # wait_for of 3.11 swaps them
        await future
    assert server.failed == 0


@pytest.mark.parametrize("way", [wait_for, timeout, move_on_after])
async def test_no_message_is_lost_that_comes_from_redis(
    shared_redis: RealRedis, connection: str, way: Any
) -> None:
    application, url = Seen(way), shared_redis.url
    async with (
        running(Gateway(url, connection, partitions=1)) as gateway,
        running(worker(application, url, connection)) as server,
    ):
        for number in range(300):
            await gateway.say("ada", number=number)
        await until(lambda: server.handled == 300)
        assert (server.failed, server.redelivered) == (0, 0)
    assert application.numbers == list(range(300))


async def test_a_message_taken_by_a_task_that_nobody_looks_at_is_in_hand_until_the_next_receive(
    shared_redis: RealRedis, connection: str
) -> None:
    """What the documentation says of it: asking for the next message acknowledges it."""
    url, seen = shared_redis.url, []
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def forgetful(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.ensure_future(receive())
        await asyncio.wait({task})
        taken.set()
        await go_on.wait()
        seen.append((await receive())["number"])

    async with (
        running(Gateway(url, connection, partitions=1)) as gateway,
        running(worker(forgetful, url, connection)) as server,
    ):
        for number in range(2):
            await gateway.say("ada", number=number)
        await taken.wait()
        assert server.handled == 0
        go_on.set()
        await until(lambda: server.handled == 2)
    assert seen == [1]
