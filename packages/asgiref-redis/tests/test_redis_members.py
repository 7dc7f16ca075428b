"""Workers that come and go: fair shares, handing over, and what a group leaves behind."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis_apps
from ledger import Ledger
from pieces import Gateway, echo, running, until, worker
from processes import Process, worker_process
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis import RedisWorker, status
from asgiref.redis._holdings import Holdings
from asgiref.redis._status_table import remove_group

pytestmark = pytest.mark.asyncio


def shares(*workers: RedisWorker) -> list[int]:
    return [list(each.partitions.values()).count("held") for each in workers]


async def test_workers_share_the_partitions_and_take_over_from_those_that_leave(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    all_three = [worker(echo, url, connection, name=name) for name in ("a", "b", "c")]
    a, b, c = all_three
    async with running(Gateway(url, connection)), running(a):
        await until(lambda: shares(a) == [8])
        async with running(b):
            await until(lambda: shares(a, b) == [4, 4])
            async with running(c):
                await until(lambda: shares(a, b, c) == [3, 3, 2])
                held = [number for each in all_three for number in each.partitions]
                assert sorted(held) == list(range(8))
        await until(lambda: shares(a) == [8])


async def test_each_group_gets_every_message_and_streams_are_trimmed_behind_the_slowest(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url

    async def stored() -> int:
        found = await status(url, connection)
        return sum(each.incoming for each in found.partitions)

    async def all_trimmed() -> bool:
        return await stored() <= 1

    async with running(Gateway(url, connection, partitions=1)) as gateway:
        async with running(worker(echo, url, connection, group="one")) as one:
            async with running(worker(echo, url, connection, group="two")) as two:
                for number in range(100):
                    await gateway.say("ada", number=number)
                heard = [(await gateway.heard())["number"] for _ in range(200)]
                assert sorted(heard) == sorted(2 * list(range(100)))
                assert (one.handled, two.handled) == (100, 100)
                await until(all_trimmed)
            for number in range(100):
                await gateway.say("ada", number=number)
                await gateway.heard()
            rounds = one.rounds + 3  # in each of which the one group trims
            await until(lambda: one.rounds >= rounds)
            assert await stored() >= 100
        async with running(worker(echo, url, connection, group="two")):
            for _ in range(100):
                await gateway.heard()
        async with running(worker(echo, url, connection, group="one")):
            await until(all_trimmed)


async def test_a_group_that_was_forgotten_comes_back_with_higher_tokens(
    shared_redis: RealRedis, connection: str
) -> None:
    async def tell_token(scope: Any, receive: Any, send: Any) -> None:
        """First what no message was the reason for: its id has nothing of one."""
        await send({"type": "begun", "token": scope["redis"]["token"]})
        while True:
            await receive()

    url, tokens, ids = shared_redis.url, [], set()
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        for _ in range(3):
            async with running(worker(tell_token, url, connection)):
                await gateway.say("ada")
                _, message, delivery = await gateway.sent.get()
            tokens.append(message["token"])
            ids.add(delivery.id)
            assert not delivery.redelivered
            await remove_group(url, connection, "group")
    assert tokens == sorted(set(tokens))
    assert len(ids) == 3


async def test_only_idle_applications_are_evicted(shared_redis: RealRedis, connection: str) -> None:
    """And scopes for which there is no room wait, in order, for one that rests."""
    go_on = asyncio.Event()
    ended = []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        try:
            while True:
                message = await receive()
                await send({"type": "begun", "id": scope["id"]})
                if message["wait"]:
                    await go_on.wait()
        except asyncio.CancelledError:
            ended.append(scope["id"])
            raise

    url = shared_redis.url
    server = worker(waits, url, connection, max_applications=2)
    async with running(Gateway(url, connection)) as gateway, running(server):
        for name in ("ada", "ben"):
            await gateway.say(name, wait=True)
        assert sorted([(await gateway.heard())["id"] for _ in range(2)]) == ["ada", "ben"]
        for name in ("cleo", "dora"):
            await gateway.say(name, wait=False)
        await until(lambda: server._host.admission.parked == 2)
        assert not ended
        go_on.set()
        assert sorted([(await gateway.heard())["id"] for _ in range(2)]) == ["cleo", "dora"]
        await until(lambda: server.handled == 4)
        assert len(server.application_instances) == 2


async def test_an_eviction_is_no_failure_to_be_explained(
    shared_redis: RealRedis, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback takes a millisecond; a thousand evictions at once would outlast a lease."""
    explained = []

    def explain(error: BaseException) -> list[str]:
        explained.append(error)
        return []

    monkeypatch.setattr("asgiref.redis._explained.traceback.format_exception", explain)
    url = shared_redis.url
    server = worker(echo, url, connection, max_applications=1)
    async with running(Gateway(url, connection)) as gateway, running(server):
        for name in ("ada", "ben", "cleo", "dora"):
            await gateway.say(name)
            await gateway.heard()
        await until(lambda: server.handled == 4)
        assert explained == []


async def test_idle_applications_end_and_busy_ones_do_not(
    shared_redis: RealRedis, connection: str
) -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": "begun"})
            if message["wait"]:
                await asyncio.Event().wait()

    url = shared_redis.url
    server = worker(waits, url, connection, idle_timeout=0.1, shutdown_timeout=0)
    async with running(Gateway(url, connection)) as gateway, running(server):
        await gateway.say("busy", wait=True)
        await gateway.say("idle", wait=False)
        for _ in range(2):
            await gateway.heard()
        await until(lambda: list(server.application_instances) == ["busy"])


async def test_applications_wait_in_send_when_the_gateway_is_away_for_long(
    shared_redis: RealRedis, connection: str
) -> None:
    """So what waits for it is bounded, and all of it comes when it is back."""
    url = shared_redis.url
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        for number in range(3000):
            queue = gateway.get_or_create_application_instance("ada", {"type": "t", "id": "ada"})
            await queue.put({"type": "say", "number": number})
        await queue.join()
    async with running(worker(echo, url, connection, stream_limit=100)) as server:
        async with Redis.from_url(url) as client:
            key = f"asgiref:{{{connection}/0}}:out"
            handled: list[int] = []

            async def goes_no_further() -> bool:
                handled.append(server.handled)
                return await client.xlen(key) >= 100 and handled[-30:] == 30 * handled[-1:]

            await until(goes_no_further)
            assert 0 < server.handled < 3000
            assert await client.xlen(key) < 1000
        async with running(Gateway(url, connection, partitions=1)) as gateway:
            heard = [(await gateway.heard())["number"] for _ in range(3000)]
            assert heard == list(range(3000))


async def test_the_status_tells_who_holds_what(shared_redis: RealRedis, connection: str) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection, name="gate")) as gateway:
        async with running(worker(echo, url, connection, name="worker-a")) as server:
            await until(lambda: shares(server) == [8])
            await gateway.say("ada")
            await gateway.heard()
            found = await status(url, connection)
            assert found.gateway == "gate"
            assert found.workers == {"group": ("worker-a",)}
            assert [each.number for each in found.partitions] == list(range(8))
            for each in found.partitions:
                [group] = each.groups
                assert (group.holder, group.lag) == ("worker-a", 0)
        await gateway.say("ada")
        found = await status(url, connection)
        assert found.workers == {"group": ()}
        assert sum(each.groups[0].lag for each in found.partitions) == 1
        assert {each.groups[0].holder for each in found.partitions} == {None}


# Workers that join and leave at random


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.clean_up()


async def churn(
    redis: RealRedis,
    connection: str,
    folder: Path,
    processes: list[Process],
    least: int,
    seconds: float = 0,
) -> int:
    """Three workers, of which one is killed, ended or stopped for a while, again and again."""
    rng = random.Random(connection)
    end = time.monotonic() + seconds

    def start() -> Process:
        processes.append(worker_process(folder, redis.url, connection, "slow_echo"))
        return processes[-1]

    changes = 0
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running(Gateway(redis.url, connection)))
        ledger = Ledger(gateway, 30)
        live = [start() for _ in range(3)]
        async with ledger.sending(0.05):
            await ledger.receive_from(*(each.pid for each in live))
            while changes < least or time.monotonic() < end:
                victim = live.pop(rng.randrange(3))
                match rng.randrange(3):
                    case 0:
                        victim.kill()
                    case 1:
                        victim.terminate()
                    case _:
                        victim.pause()
                others = [each.pid for each in live]
                await ledger.receive_from(*others, tell=30)
                victim.resume()
                victim.terminate()
                live.append(start())
                await ledger.receive_from(live[-1].pid, tell=10)
                changes += 1
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()
    return changes


async def test_workers_join_and_leave_at_random_under_load(
    shared_redis: RealRedis, connection: str, tmp_path: Path, processes: list[Process]
) -> None:
    assert await churn(shared_redis, connection, tmp_path, processes, 4) == 4


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_workers_join_and_leave_at_random_for_two_minutes(
    shared_redis: RealRedis, connection: str, tmp_path: Path, processes: list[Process]
) -> None:
    assert await churn(shared_redis, connection, tmp_path, processes, 10, 120) >= 10


async def test_a_lease_that_is_over_when_its_answer_comes_is_taken_again(
    shared_redis: RealRedis, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that stands still between the request and the answer."""
    calls = itertools.count()
    in_time = Holdings._deadline

    def late(holdings: Holdings) -> float:
        return 0.0 if next(calls) < 3 else in_time(holdings)

    monkeypatch.setattr(Holdings, "_deadline", late)
    url = shared_redis.url
    async with (
        running(Gateway(url, connection)) as gateway,
        running(worker(echo, url, connection)),
    ):
        await gateway.say("ada", number=1)
        assert (await gateway.heard())["number"] == 1


async def test_a_worker_that_loses_its_partitions_takes_them_again_and_repeats_what_was_open(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    server = worker(redis_apps.echo, url, connection)
    async with running(Gateway(url, connection)) as gateway, running(server):
        ledger = Ledger(gateway, 5)
        for _ in range(10):
            await ledger.send(20)
            await ledger.receive_one()
            assert server._holdings is not None
            for partition in list(server._holdings.held.values()):
                partition.lose("the test says so")
            await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()
