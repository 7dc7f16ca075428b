"""The gateway is killed, stopped, doubled: what Redis has is handled, and delivered."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pieces import Gateway, echo, running, until, worker
from processes import SUPPORT, Process, worker_process
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis import ConnectionTaken
from asgiref.redis._keys import ConnectionKeys

pytestmark = pytest.mark.asyncio


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.clean_up()


def gateway_process(folder: Path, url: str, connection: str, first: int) -> Process:
    return Process(folder, str(SUPPORT / "redis_gateway.py"), url, connection, str(first))


def lines(processes: list[Process], word: str) -> list[list[str]]:
    """What the processes have said, without a line that is not finished."""
    texts = [process.text().rpartition("\n")[0] for process in processes]
    words = [line.split() for text in texts for line in text.split("\n")]
    return [each for each in words if each[:1] == [word]]


async def test_a_killed_gateway_loses_nothing_that_redis_had(
    shared_redis: RealRedis, connection: str, tmp_path: Path, processes: list[Process]
) -> None:
    url = shared_redis.url
    gateways: list[Process] = []
    repeated: set[int] = set()
    for _ in range(3):
        first = len({number for _, number in lines(gateways, "stored")})
        if gateways:
            repeated.add(first)  # stored, perhaps, before the gateway could say so
        gateway = gateway_process(tmp_path, url, connection, first)
        gateways.append(gateway)
        processes.append(gateway)
        if len(gateways) == 1:  # it decides the number of partitions, so it is there first
            await until(lambda: len(lines(gateways, "stored")) > 0)
            processes.append(worker_process(tmp_path, url, connection))
        await until(lambda gateway=gateway: len(lines([gateway], "delivered")) > 100)  # type: ignore[misc]
        gateway.kill()
    stored = {int(number) for _, number in lines(gateways, "stored")}
    last = Gateway(url, connection, partitions=4)
    async with running(last):
        heard = [(int(n), again == "1") for _, n, again, _ in lines(gateways, "delivered")]
        while stored - {number for number, _ in heard}:
            _, message, delivery = await last.sent.get()
            heard.append((message["number"], message["redelivered"] or delivery.redelivered))
    unmarked = Counter(number for number, again in heard if not again)
    assert {number for number, count in unmarked.items() if count > 1} <= repeated


async def test_a_gateway_that_was_stopped_cannot_write_after_its_successor(
    shared_redis: RealRedis, connection: str, tmp_path: Path, processes: list[Process]
) -> None:
    url = shared_redis.url
    stopped = gateway_process(tmp_path, url, connection, 0)
    processes.append(stopped)
    await until(lambda: bool(lines([stopped], "stored")))
    stopped.send(signal.SIGSTOP)
    async with running(Gateway(url, connection, partitions=4)) as gateway:
        stopped.send(signal.SIGCONT)
        assert await stopped.ended() == 1
        assert f"Another gateway took the connection '{connection}'" in stopped.text()
        async with running(worker(echo, url, connection)):
            await gateway.say("ada", number=-1)
            while (await gateway.heard())["number"] != -1:
                pass


async def test_a_second_gateway_is_refused(shared_redis: RealRedis, connection: str) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection, name="the-first")):
        second = Gateway(url, connection)
        with pytest.raises(ConnectionTaken, match=f"'{connection}' has a gateway: the-first"):
            await second.arun()
        assert not second.ready.is_set()


async def test_a_gateway_that_has_ended_makes_room_at_once(
    shared_redis: RealRedis, connection: str
) -> None:
    key = ConnectionKeys.of(connection).gateway
    async with Redis.from_url(shared_redis.url) as client:
        for _ in range(2):
            async with running(Gateway(shared_redis.url, connection, lease=60)):
                assert await client.exists(key)
            assert not await client.exists(key)


async def test_what_is_in_the_backlog_is_stored_at_the_end(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        for number in range(100):
            queue = gateway.get_or_create_application_instance("ada", {"type": "t", "id": "ada"})
            queue.put_nowait({"type": "say", "number": number})
    assert gateway.stored == 100
    async with (
        running(Gateway(url, connection)) as gateway,
        running(worker(echo, url, connection)),
    ):
        assert [(await gateway.heard())["number"] for _ in range(100)] == list(range(100))


async def test_a_full_backlog_slows_handle_down_and_empties_when_redis_is_back(
    own_redis: RealRedis, connection: str
) -> None:
    async with running(Gateway(own_redis.url, connection, backlog=10, lease=30)) as gateway:
        os.kill(own_redis.pid, signal.SIGSTOP)
        queue = gateway.get_or_create_application_instance("ada", {"type": "t", "id": "ada"})
        for number in range(10):
            queue.put_nowait({"type": "say", "number": number})
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait({"type": "say"})
        waiting = asyncio.create_task(queue.put({"type": "say", "number": 10}))
        await asyncio.sleep(0)
        assert not waiting.done()
        os.kill(own_redis.pid, signal.SIGCONT)
        await waiting
        await queue.join()
        async with running(worker(echo, own_redis.url, connection)):
            assert [(await gateway.heard())["number"] for _ in range(11)] == list(range(11))


async def test_an_event_is_delivered_again_under_the_same_id_when_the_gateway_fails(
    shared_redis: RealRedis, connection: str
) -> None:
    class Failing(Gateway):
        async def application_send(self, scope: object, message: object) -> None:
            seen.append((self.delivery.id, self.delivery.redelivered))
            if len(seen) < 3:
                raise OSError("the network is away")
            await super().application_send(scope, message)

    seen: list[tuple[str, bool]] = []
    url = shared_redis.url
    async with (
        running(Failing(url, connection, retry_delay=0.01)) as gateway,
        running(worker(echo, url, connection)),
    ):
        await gateway.say("ada")
        await gateway.heard()
    assert [again for _, again in seen] == [False, True, True]
    assert len({id for id, _ in seen}) == 1


async def test_a_redis_without_memory_slows_the_gateway_and_workers_empty_it(
    own_redis: RealRedis, connection: str
) -> None:
    """Also workers that come only then."""
    async with Redis.from_url(own_redis.url) as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + 6_000_000)

    async def fill(gateway: Gateway) -> None:
        for number in range(600):
            await gateway.store(
                f"scope{number % 20}",
                {"type": "test", "id": f"scope{number % 20}"},
                {"type": "say", "number": number, "text": 10_000 * "x"},
            )

    handled: list[int] = []

    async def take(scope: object, receive: Any, send: object) -> None:
        while True:
            handled.append((await receive())["number"])

    async with running(Gateway(own_redis.url, connection, lease=30)) as gateway:
        filling = [asyncio.create_task(fill(gateway)) for _ in range(2)]
        stored: list[int] = []

        def goes_no_further() -> bool:
            stored.append(gateway.stored)
            return gateway.stored > 100 and stored[-50:] == 50 * stored[-1:]

        await until(goes_no_further)
        assert gateway.stored < 1200
        async with running(worker(take, own_redis.url, connection)):
            await asyncio.gather(*filling)
            await until(lambda: len(handled) == 1200)
