"""Processes are killed and stopped, connections are cut: no message is lost, none comes twice
without saying so, and each scope's come in order."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger import Ledger
from pieces import Gateway, running
from processes import Process, Proxy, worker_process
from real_redis import RealRedis

pytestmark = pytest.mark.asyncio


class Workers:
    """Starts worker processes, and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Process] = []

    def start(self, url: str, connection: str, application: str = "slow_echo") -> Process:
        process = worker_process(self._folder, url, connection, application)
        self.all.append(process)
        return process


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path)
    yield started
    for process in started.all:
        process.clean_up()


async def test_a_killed_worker_loses_nothing(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        ledger = Ledger(gateway, 40)
        first, _ = workers.start(url, connection), workers.start(url, connection)
        sending = asyncio.create_task(ledger.send(50, 0.02))
        while not any(event["pid"] == first.pid for event in ledger.events):
            await ledger.receive_one()
        first.kill()
        await ledger.receive_all()
        await sending
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()


async def test_a_worker_that_was_stopped_for_longer_than_its_lease_does_not_act_twice(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        ledger = Ledger(gateway, 40)
        stopped = workers.start(url, connection)
        sending = asyncio.create_task(ledger.send(60, 0.02))
        await ledger.receive_one()
        other = workers.start(url, connection)
        while not any(event["pid"] == other.pid for event in ledger.events):
            await ledger.receive_one()
        stopped.send(signal.SIGSTOP)
        await sending
        await ledger.receive_all()
        before = len(ledger.events)
        stopped.send(signal.SIGCONT)
        await ledger.send(20, 0.02)
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()
        assert len(ledger.events) > before


async def test_redis_is_killed_and_starts_again(
    own_redis: RealRedis, connection: str, workers: Workers
) -> None:
    async with running(Gateway(own_redis.url, connection)) as gateway:
        ledger = Ledger(gateway, 40)
        for _ in range(2):
            workers.start(own_redis.url, connection)
        await ledger.send(5)
        await ledger.receive_one()
        sending = asyncio.create_task(ledger.send(50, 0.02))
        await ledger.receive_one()
        own_redis.kill()
        await asyncio.to_thread(own_redis.start)
        await sending
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()


async def test_redis_is_unreachable_for_longer_than_a_lease(
    own_redis: RealRedis, connection: str, workers: Workers
) -> None:
    async with Proxy(own_redis.port) as proxy, running(Gateway(proxy.url, connection)) as gateway:
        ledger = Ledger(gateway, 40)
        workers.start(proxy.url, connection)
        sending = asyncio.create_task(ledger.send(50, 0.02))
        await ledger.receive_one()
        proxy.open.clear()
        waiting = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2.5, waiting.set_result, None)
        await waiting
        proxy.open.set()
        proxy.cut()
        await sending
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()


async def test_connections_are_cut_in_the_middle_of_replies(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    async with Proxy(shared_redis.port) as proxy:
        async with running(Gateway(proxy.url, connection)) as gateway:
            ledger = Ledger(gateway, 40)
            for _ in range(2):
                workers.start(proxy.url, connection)
            sending = asyncio.create_task(ledger.send(100, 0.02))
            await ledger.receive_one()
            proxy.cut_after = 20_000
            proxy.cut()
            while proxy.cuts < 20:
                await ledger.receive_one()
            proxy.cut_after = None
            await sending
            await ledger.receive_all()
            ledger.verify()
            ledger.verify_fencing()


async def test_sigterm_hands_over_at_once_and_nothing_is_redelivered(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        ledger = Ledger(gateway, 40)
        first = workers.start(url, connection)
        sending = asyncio.create_task(ledger.send(60, 0.02))
        await ledger.receive_one()
        workers.start(url, connection)
        first.send(signal.SIGTERM)
        assert await first.ended() == 0
        await sending
        await ledger.receive_all()
        assert ledger.verify() == 0
        ledger.verify_fencing()
