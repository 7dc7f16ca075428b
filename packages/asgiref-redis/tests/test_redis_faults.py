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

UNREACHABLE_SECONDS = 2.5


class Workers:
    """Starts worker processes, and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Process] = []

    def start(
        self, url: str, connection: str, application: str = "slow_echo", *options: str
    ) -> Process:
        process = worker_process(self._folder, url, connection, application, *options)
        self.all.append(process)
        return process


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path)
    yield started
    for process in started.all:
        process.clean_up()


async def judge(ledger: Ledger) -> int:
    """Wait for all answers; give how many say that they are redelivered."""
    await ledger.receive_all()
    redelivered = ledger.verify()
    ledger.verify_fencing()
    return redelivered


async def test_a_killed_worker_loses_nothing(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        ledger = Ledger(gateway, 20)
        first, second = workers.start(url, connection), workers.start(url, connection)
        async with ledger.sending():
            await ledger.receive_from(first.pid, second.pid)
            first.kill()
            await ledger.receive_from(second.pid, tell=100)
        await judge(ledger)


async def test_a_worker_that_was_stopped_for_longer_than_its_lease_does_not_act_twice(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        ledger = Ledger(gateway, 20)
        stopped, other = workers.start(url, connection), workers.start(url, connection)
        async with ledger.sending():
            await ledger.receive_from(stopped.pid, other.pid)
            stopped.send(signal.SIGSTOP)
        await ledger.receive_all()
        stopped.send(signal.SIGCONT)
        async with ledger.sending():
            await ledger.receive_from(stopped.pid)
        await judge(ledger)


async def test_redis_is_killed_and_starts_again(
    own_redis: RealRedis, connection: str, workers: Workers
) -> None:
    async with running(Gateway(own_redis.url, connection)) as gateway:
        ledger = Ledger(gateway, 20)
        pids = [workers.start(own_redis.url, connection).pid for _ in range(2)]
        async with ledger.sending():
            await ledger.receive_from(*pids)
            for _ in range(2):
                own_redis.kill()
                await asyncio.to_thread(own_redis.start)
                await ledger.receive_from(*pids)
        await judge(ledger)


async def test_redis_is_unreachable_for_longer_than_a_lease(
    own_redis: RealRedis, connection: str, workers: Workers
) -> None:
    async with Proxy(own_redis.port) as proxy, running(Gateway(proxy.url, connection)) as gateway:
        ledger = Ledger(gateway, 20)
        worker = workers.start(proxy.url, connection)
        async with ledger.sending():
            await ledger.receive_from(worker.pid)
            proxy.open.clear()
            await asyncio.sleep(UNREACHABLE_SECONDS)  # it is this time that is tested
            proxy.open.set()
            await ledger.receive_from(worker.pid, tell=100)
        await judge(ledger)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_redis_is_unreachable_for_thirty_seconds(
    own_redis: RealRedis, connection: str, workers: Workers
) -> None:
    """With the default lease. What comes meanwhile waits where it comes from."""
    backlog, lease = 100, 10.0
    async with (
        Proxy(own_redis.port) as proxy,
        running(Gateway(proxy.url, connection, lease=lease, backlog=backlog)) as gateway,
    ):
        ledger = Ledger(gateway, 20)
        options = ("slow_echo", "--lease", f"{lease:g}")
        pids = [workers.start(proxy.url, connection, *options).pid for _ in range(2)]
        async with ledger.sending():
            await ledger.receive_from(*pids)
            proxy.open.clear()
            loop = asyncio.get_running_loop()
            end = loop.time() + 30
            while loop.time() < end:  # it is this time that is tested
                assert ledger.sent - gateway.stored <= backlog
                await asyncio.sleep(0.1)
            assert ledger.sent - gateway.stored == backlog
            assert gateway.get_or_create_application_instance("ada", {"type": "t"}).full()
            proxy.open.set()
            await ledger.receive_from(*pids, tell=100)
        await judge(ledger)


async def test_connections_are_cut_in_the_middle_of_replies(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    async with (
        Proxy(shared_redis.port) as proxy,
        running(Gateway(proxy.url, connection)) as gateway,
    ):
        ledger = Ledger(gateway, 20)
        pids = [workers.start(proxy.url, connection).pid for _ in range(2)]
        async with ledger.sending():
            await ledger.receive_from(*pids)
            proxy.cut_after = 20_000
            proxy.cut()
            while proxy.cuts < 20:
                await ledger.receive_one()
            proxy.cut_after = None
        await judge(ledger)


async def test_sigterm_hands_over_at_once_and_nothing_is_redelivered(
    shared_redis: RealRedis, connection: str, workers: Workers
) -> None:
    """Leases are long: nothing here is due to one that has run out, on a busy machine neither."""
    url, lease = shared_redis.url, ("--lease", "60")
    async with running(Gateway(url, connection, lease=60)) as gateway:
        ledger = Ledger(gateway, 20)
        first = workers.start(url, connection, "slow_echo", *lease)
        second = workers.start(url, connection, "slow_echo", *lease)
        async with ledger.sending():
            await ledger.receive_from(first.pid, second.pid)
            first.send(signal.SIGTERM)
            assert await first.ended() == 0
            await ledger.receive_from(second.pid, tell=100)
        assert await judge(ledger) == 0
