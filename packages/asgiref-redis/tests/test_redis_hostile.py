"""Redis is emptied, forbids things, forgets, throws clients out: all go on, or say why not."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis_apps
from ledger import Ledger
from pieces import Gateway, echo, running, until, worker
from processes import Proxy
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis import RedisServerError, status
from asgiref.redis._client import connected
from asgiref.redis._keys import ConnectionKeys, PartitionKeys
from asgiref.redis._tasks import end

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def asking(server: RealRedis) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url) as client:
        yield client


async def comes_back(gateway: Gateway, **message: Any) -> None:
    """A message to every partition is answered."""
    names = {f"scope{number}" for number in range(50)}
    for name in names:
        await gateway.say(name, **message)
    while names:
        heard = await gateway.heard()
        if message.items() <= heard.items():
            names.discard(heard["scope"])


async def test_after_flushall_gateway_and_workers_go_on(
    own_redis: RealRedis, connection: str
) -> None:
    """What was stored is gone, as the user wanted. Whoever comes later finds all as before."""
    url = own_redis.url
    async with running(Gateway(url, connection)) as gateway, running(worker(echo, url, connection)):
        for turn in range(3):
            await comes_back(gateway, turn=turn)
            async with asking(own_redis) as client:
                await client.flushall()
        await comes_back(gateway, turn=3)
        async with asking(own_redis) as client:

            async def is_known() -> bool:
                return bool(await client.hget(ConnectionKeys.of(connection).settings, "token"))

            await until(is_known)
        async with running(worker(echo, url, connection, group="late")) as late:
            await until(lambda: len(late.partitions) == 8)
    async with running(Gateway(url, connection)):
        assert (await status(url, connection)).gateway is not None


async def test_scripts_that_redis_forgets_are_sent_again(
    own_redis: RealRedis, connection: str
) -> None:
    url = own_redis.url
    async with (
        running(Gateway(url, connection, lease=60)) as gateway,
        running(worker(redis_apps.echo, url, connection, lease=60)) as server,
        asking(own_redis) as client,
    ):
        ledger = Ledger(gateway, 20)
        await until(lambda: len(server.partitions) == 8)
        async with ledger.sending(0.01):
            for _ in range(20):
                await client.script_flush()
                for _ in range(20):
                    await ledger.receive_one()
        await ledger.receive_all()
        assert ledger.verify() == 0


async def test_clients_that_are_thrown_out_again_and_again_come_back(
    own_redis: RealRedis, connection: str
) -> None:
    url = own_redis.url
    async with (
        running(Gateway(url, connection)) as gateway,
        running(worker(redis_apps.echo, url, connection)) as server,
        asking(own_redis) as client,
    ):
        ledger = Ledger(gateway, 20)
        await until(lambda: len(server.partitions) == 8)
        async with ledger.sending(0.01):
            for turn in range(30):
                kind = ("normal", "pubsub")[turn % 2]
                await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                for _ in range(20):
                    await ledger.receive_one()
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()


@pytest.mark.parametrize(
    ("forbidden", "told"),
    [
        ("-eval -evalsha", "Partition 0: "),
        ("-xadd", "Partition 0: "),
        ("-xreadgroup", "Partition 0: "),
        ("-set", "The lease of the gateway was not renewed: "),
    ],
)
async def test_a_right_that_is_taken_away_is_told_of_and_missed_until_it_is_back(
    own_redis: RealRedis,
    connection: str,
    caplog: pytest.LogCaptureFixture,
    forbidden: str,
    told: str,
) -> None:
    rights = "on >secret ~asgiref:* &asgiref:* +@all -@dangerous +info"
    url = own_redis.url.replace("//", "//bots:secret@")
    keys = PartitionKeys.of(connection, 0)
    scope, event = {"type": "test", "id": "ada"}, {"type": "heard"}

    def is_told() -> bool:
        found = [each.getMessage() for each in caplog.records]
        refusal = re.compile(f"{told}.*(can't run this command|no permission)")
        return any(refusal.match(each) for each in found)

    async with asking(own_redis) as client:
        await client.execute_command("ACL", "SETUSER", "bots", *rights.split())
        async with running(Gateway(url, connection, partitions=1)) as gateway:
            await gateway.say("ada")
            await client.execute_command("ACL", "SETUSER", "bots", *forbidden.split())
            storing = asyncio.create_task(gateway.say("ada"))
            for number in range(3):
                fields = {"s": json.dumps(scope), "m": json.dumps({**event, "number": number})}
                await client.xadd(keys.outgoing, fields)
                await client.publish(ConnectionKeys.of(connection).outgoing, 0)
            await until(is_told)
            await client.execute_command("ACL", "SETUSER", "bots", "+@all")
            await storing
            assert [(await gateway.heard())["number"] for _ in range(3)] == [0, 1, 2]
            assert len(caplog.records) < 50


async def test_a_worker_that_is_refused_takes_its_partition_again_in_the_next_round(
    own_redis: RealRedis, connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    rights = "on >secret ~asgiref:* &asgiref:* +@all -@dangerous +info"
    url = own_redis.url.replace("//", "//bots:secret@")
    async with asking(own_redis) as client:
        await client.execute_command("ACL", "SETUSER", "bots", *rights.split())
        async with (
            running(Gateway(own_redis.url, connection, partitions=1, lease=9)) as gateway,
            running(worker(redis_apps.echo, url, connection, lease=9)) as server,
        ):
            await until(lambda: len(server.partitions) == 1)
            await client.execute_command("ACL", "SETUSER", "bots", "-xreadgroup")
            await gateway.say("ada", number=1)
            await until(lambda: not server.partitions)
            rounds = server.rounds
            for _ in range(500):
                await client.ping()
            assert server.rounds <= rounds + 1  # one more if the worker just began to listen
            assert [each for each in caplog.records if "is given up" in each.getMessage()]
            await client.execute_command("ACL", "SETUSER", "bots", "+@all")
            assert (await gateway.heard())["number"] == 1


async def test_a_redis_that_restarts_while_a_gateway_begins_ends_it_with_a_sentence(
    own_redis: RealRedis, connection: str
) -> None:
    """Or it has begun before, and goes on. It can be tried again at once, under the same name."""
    url, ended = own_redis.url, 0
    for turn in range(20):
        gateway = Gateway(url, connection, name="gate", lease=60)
        running_it = asyncio.create_task(gateway.arun())
        for _ in range(turn):
            await asyncio.sleep(0)
        await asyncio.to_thread(own_redis.kill)
        await asyncio.to_thread(own_redis.start)
        ready = asyncio.create_task(gateway.ready.wait())
        await asyncio.wait({running_it, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if running_it.done():
            ended += 1
            with pytest.raises(RedisServerError, match=r"^The Redis at .* does not answer: .*\.$"):
                await running_it
        running_it.cancel()
        await asyncio.wait({running_it})
    assert ended
    async with running(Gateway(url, connection, name="gate", lease=60)) as gateway:
        await gateway.say("ada")


async def test_a_listener_whose_connection_has_died_silently_listens_on_another_one(
    own_redis: RealRedis, connection: str
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(_: str, text: str) -> None:
        heard.put_nowait(text)

    async with Proxy(own_redis.port) as proxy, connected(proxy.url, patience=0.2) as link:
        listening = asyncio.create_task(link.listen({connection}, hear).run())
        async with asking(own_redis) as client:
            for number in range(3):
                assert await heard.get() == ""  # it listens again
                await client.publish(connection, number)
                assert await heard.get() == str(number)
                proxy.freeze()
        await end([listening])


async def test_what_redis_refuses_is_tried_again_after_a_growing_time(
    own_redis: RealRedis, connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    def waits() -> list[float]:
        found = [each.getMessage() for each in caplog.records]
        return [float(text.split()[-2]) for text in found if "WRONGTYPE" in text]

    key = PartitionKeys.of(connection, 0).incoming
    async with (
        running(Gateway(own_redis.url, connection, partitions=1, lease=60)) as gateway,
        asking(own_redis) as client,
    ):
        await client.set(key, "not a stream")
        storing = asyncio.create_task(gateway.say("ada"))
        await until(lambda: len(waits()) >= 4)
        assert waits()[0] < waits()[3]
        await client.delete(key)
        await storing
