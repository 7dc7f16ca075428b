"""Nobody waits for a gateway that has ended; what comes before it runs waits for that."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pieces import Gateway, echo, running, until, worker
from processes import Proxy
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis import ConnectionTaken, RedisServerError
from asgiref.redis._keys import ConnectionKeys

pytestmark = pytest.mark.asyncio


def queue_of(gateway: Gateway) -> Any:
    return gateway.get_or_create_application_instance("ada", {"type": "test", "id": "ada"})


WAYS: dict[str, Callable[[Gateway, Any], Coroutine[Any, Any, Any]]] = {
    "store": lambda gateway, queue: gateway.say("ada"),
    "put": lambda gateway, queue: queue.put({"type": "say"}),
    "put_nowait": lambda gateway, queue: asyncio.to_thread(queue.put_nowait, {"type": "say"}),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_gateway_that_has_ended_refuses_messages_at_once(
    shared_redis: RealRedis, connection: str, way: str
) -> None:
    gateway = Gateway(shared_redis.url, connection)
    async with running(gateway):
        queue = queue_of(gateway)
        await gateway.say("ada")
    with pytest.raises(RedisServerError, match=r"^The gateway has ended: it takes no messages\.$"):
        await WAYS[way](gateway, queue)
    await queue.join()


async def test_who_waits_when_the_gateway_ends_learns_that_it_ends(
    own_redis: RealRedis, connection: str
) -> None:
    """For room, for its message to be stored, and for all messages to be stored."""
    gateway = Gateway(own_redis.url, connection, backlog=2, shutdown_timeout=0.1)
    async with Proxy(own_redis.port) as proxy:
        gateway._url = proxy.url
        async with running(gateway):
            queue = queue_of(gateway)
            await gateway.say("ada")
            proxy.open.clear()
            waiting = [
                asyncio.create_task(each)
                for each in (
                    *(gateway.say("ada"), queue.put({"type": "say"})),
                    *(gateway.say("ada"), queue.put({"type": "say"}), queue.join()),
                )
            ]
            await until(queue.full)
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(each) for each in results] == [
        "The gateway has ended: Redis did not get the message.",
        "None",  # it had been taken
        "The gateway has ended: it takes no messages.",
        "The gateway has ended: it takes no messages.",
        "The gateway has ended: 2 messages were not stored.",
    ]
    with pytest.raises(RedisServerError, match="2 messages were not stored"):
        await queue.join()


async def test_a_gateway_whose_connection_is_taken_ends_at_once_and_says_so_to_who_waits(
    shared_redis: RealRedis, connection: str
) -> None:
    gateway = Gateway(shared_redis.url, connection, stream_limit=1, partitions=1, backlog=2)
    taken = "The gateway has ended: Another gateway took the connection"
    running_it = asyncio.create_task(gateway.arun())
    await gateway.ready.wait()
    queue = queue_of(gateway)
    await gateway.say("ada")
    storing = asyncio.create_task(gateway.say("ada"))  # no room in the stream
    joining = asyncio.create_task(queue.join())
    async with Redis.from_url(shared_redis.url) as client:
        await client.set(ConnectionKeys.of(connection).gateway, "another")
    for each in (storing, joining):
        with pytest.raises(ConnectionTaken, match=taken):
            await each
    with pytest.raises(ConnectionTaken, match="Another gateway took"):
        await running_it
    with pytest.raises(ConnectionTaken, match=taken):
        await gateway.say("ada")


async def test_a_gateway_that_cannot_start_refuses_what_was_put_before(connection: str) -> None:
    gateway = Gateway("redis://127.0.0.1:1", connection)
    storing = asyncio.create_task(gateway.say("ada"))
    await asyncio.sleep(0)
    with pytest.raises(RedisServerError, match="does not answer"):
        await gateway.arun()
    with pytest.raises(RedisServerError, match="does not answer"):
        await storing


async def test_a_gateway_runs_again(shared_redis: RealRedis, connection: str) -> None:
    """What is put before the first run, and between the beginning of one and its going, is kept."""
    gateway = Gateway(shared_redis.url, connection)
    queue_of(gateway).put_nowait({"type": "say", "number": 0})
    for number in (1, 2):
        async with running(gateway):
            await gateway.say("ada", number=number)
            gateway.ready.clear()
    async with running(gateway), running(worker(echo, shared_redis.url, connection)):
        await gateway.say("ada", number=3)
        assert [(await gateway.heard())["number"] for _ in range(4)] == [0, 1, 2, 3]


async def test_a_gateway_that_runs_cannot_be_run_again(
    shared_redis: RealRedis, connection: str
) -> None:
    gateway = Gateway(shared_redis.url, connection)
    async with running(gateway):
        with pytest.raises(RedisServerError, match=r"^The gateway runs already\.$"):
            await gateway.arun()
        await gateway.say("ada")
