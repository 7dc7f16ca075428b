"""Redis does something late: part of a write that its end has cut off, or a call that was given up.

A Redis whose file ends in the middle of a transaction (it was killed, or the machine lost its
power) undoes that at its next start. At the start after that, many releases have it back: they
have cut the file in the wrong place.
"""

import asyncio
import json

import pytest
from pieces import Gateway, echo, running, until, worker
from processes import Proxy
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis._keys import ConnectionKeys, PartitionKeys
from asgiref.redis._scripts import CONSUMER, GATEWAY

pytestmark = pytest.mark.asyncio

LEASE = 30  # nothing of this is about leases


async def length(url: str, stream: str) -> int:
    async with Redis.from_url(url) as client:
        return int(await client.xlen(stream))


async def test_a_message_that_was_written_by_half_comes_once(
    own_redis: RealRedis, connection: str
) -> None:
    async def both_are_written() -> bool:
        return await length(url, keys.incoming) == 2

    url, keys = own_redis.url, PartitionKeys.of(connection, 0)
    async with (
        Proxy(own_redis.port) as proxy,
        running(Gateway(proxy.url, connection, partitions=1, lease=LEASE)) as gateway,
    ):
        await gateway.say("ada", number=0)
        proxy.loses_answers_to = b'"number":1'
        saying = asyncio.create_task(gateway.say("ada", number=1))
        await until(both_are_written)
        own_redis.kill_in_the_middle_of_writing(b'"number":1')
        proxy.loses_answers_to = None
        await asyncio.to_thread(own_redis.start)
        await saying
        own_redis.kill()
        await asyncio.to_thread(own_redis.start)
        await gateway.say("ada", number=2)
        async with running(worker(echo, url, connection)):
            heard = [await gateway.heard() for _ in range(3)]
            assert [message["number"] for message in heard] == [0, 1, 2]
            assert not any("redelivered" in message for message in heard)


async def test_an_event_that_was_written_by_half_comes_once_or_says_that_it_comes_again(
    own_redis: RealRedis, connection: str
) -> None:
    async def echo_when_allowed(scope: object, receive: object, send: object) -> None:
        begun.set()
        await allowed.wait()
        await echo(scope, receive, send)

    async def is_written_and_acknowledged() -> bool:
        async with Redis.from_url(url) as client:
            pending = (await client.xpending(keys.incoming, "group"))["pending"]
            return bool(await client.xlen(keys.outgoing) and not pending)

    begun, allowed = asyncio.Event(), asyncio.Event()
    url, keys = own_redis.url, PartitionKeys.of(connection, 0)
    async with (
        Proxy(own_redis.port) as way_of_gateway,
        Proxy(own_redis.port) as way_of_worker,
        running(Gateway(way_of_gateway.url, connection, partitions=1, lease=LEASE)) as gateway,
        running(worker(echo_when_allowed, way_of_worker.url, connection, lease=LEASE)),
    ):
        await gateway.say("ada", number=0)
        await begun.wait()
        way_of_gateway.open.clear()
        way_of_worker.loses_answers_to = b'"number":0'
        allowed.set()
        await until(is_written_and_acknowledged)
        own_redis.kill_in_the_middle_of_writing(b'"number":0')
        way_of_worker.loses_answers_to = None
        await asyncio.to_thread(own_redis.start)
        await until(is_written_and_acknowledged)
        own_redis.kill()
        await asyncio.to_thread(own_redis.start)
        way_of_gateway.open.set()
        await gateway.say("ada", number=1)
        heard, numbers = [], []
        while 1 not in numbers:
            _, message, delivery = await gateway.sent.get()
            numbers.append(message["number"])
            heard.append((message["number"], delivery.id))
            assert delivery.redelivered == (heard.count(heard[-1]) > 1)
        assert sorted(set(numbers)) == [0, 1]
        assert len(set(heard)) == 2


async def test_what_a_call_that_was_given_up_has_read_is_handled_in_its_turn(
    shared_redis: RealRedis, connection: str
) -> None:
    url, keys = shared_redis.url, PartitionKeys.of(connection, 0)
    scope, first = {"type": "test", "id": "ada"}, {"type": "say", "number": 1}
    fields = {"i": "ada", "s": json.dumps(scope), "m": json.dumps(first)}
    async with (
        running(Gateway(url, connection, partitions=1, lease=LEASE)) as gateway,
        running(worker(echo, url, connection, lease=LEASE)),
    ):
        await gateway.say("ada", number=0)
        assert (await gateway.heard())["number"] == 0
        async with Redis.from_url(url) as client, client.pipeline(transaction=True) as late:
            late.xadd(keys.incoming, fields)
            late.xreadgroup("group", CONSUMER, {keys.incoming: ">"})
            await late.execute()
        await gateway.say("ada", number=2)
        assert [(await gateway.heard())["number"] for _ in range(2)] == [1, 2]


async def test_what_a_call_of_the_gateway_that_was_given_up_has_read_is_delivered_in_its_turn(
    shared_redis: RealRedis, connection: str
) -> None:
    url, keys = shared_redis.url, PartitionKeys.of(connection, 0)
    scope = json.dumps({"type": "test", "id": "ada"})

    def event(number: int) -> dict[str, str]:
        return {"s": scope, "m": json.dumps({"type": "heard", "number": number})}

    async def tell(number: int) -> None:
        await client.xadd(keys.outgoing, event(number))
        await client.publish(ConnectionKeys.of(connection).outgoing, 0)

    async with (
        running(Gateway(url, connection, partitions=1, lease=LEASE)) as gateway,
        Redis.from_url(url) as client,
    ):
        await tell(0)
        assert (await gateway.heard())["number"] == 0
        async with client.pipeline(transaction=True) as late:
            late.xadd(keys.outgoing, event(1))
            late.xreadgroup(GATEWAY, CONSUMER, {keys.outgoing: ">"})
            await late.execute()
        await tell(2)
        assert [(await gateway.heard())["number"] for _ in range(2)] == [1, 2]
