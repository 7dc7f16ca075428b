"""Messages that kill their worker: they end as dead letters, and those beside them do not."""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pieces import Gateway, letters, running, until, worker
from processes import Process, Proxy, worker_process
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis import status

pytestmark = pytest.mark.asyncio


class Supervisor:
    """Starts a worker process again whenever it has died, as a supervisor does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []
        self.deaths: list[int] = []

    @asynccontextmanager
    async def keeping(self, url: str, connection: str, *options: str) -> AsyncIterator[None]:
        async def keep() -> None:
            while True:
                process = worker_process(self._folder, url, connection, "dies", *options)
                self._processes.append(process)
                self.deaths.append(await process.ended())

        task = asyncio.create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self.clean_up()

    def clean_up(self) -> None:
        for process in self._processes:
            process.clean_up()

    def said(self) -> str:
        return "".join(process.text() for process in self._processes)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.clean_up()


@pytest.mark.parametrize(("how", "code"), [("exit", 137), ("signal", -9)])
async def test_a_message_that_kills_its_worker_becomes_a_dead_letter_and_the_next_is_handled(
    shared_redis: RealRedis, connection: str, supervisor: Supervisor, how: str, code: int
) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection, partitions=2)) as gateway,
        supervisor.keeping(url, connection, "--name", "unlucky"),
    ):
        await gateway.say("ada", how=how)
        await gateway.say("ada", number=1)
        assert (await gateway.heard())["number"] == 1
    assert supervisor.deaths == [code] * 5
    [letter] = await letters(url, connection)
    assert letter[b"attempts"] == b"5"
    assert letter[b"reason"].startswith(b"its worker died 5 times while it was handled")
    assert letter[b"reason"].endswith(b"the last one was unlucky")
    assert letter[b"traceback"] == b""
    assert letter[b"i"] == b"ada"
    assert "is a dead letter after 5 attempts: its worker died 5 times" in supervisor.said()
    found = await status(url, connection)
    assert sum(each.dead for each in found.partitions) == 1


@pytest.mark.parametrize("failures", [1, 2, 3, 5])
async def test_those_beside_it_are_handled_in_order(
    shared_redis: RealRedis, connection: str, supervisor: Supervisor, failures: int
) -> None:
    """50 scopes have work at the same time as the one whose message kills."""
    url, scopes, rounds = shared_redis.url, 50, 3
    done: dict[str, list[int]] = defaultdict(list)
    async with running(Gateway(url, connection)) as gateway:
        for number in range(rounds):
            for scope in range(scopes):
                await gateway.say(f"scope{scope}", number=number, seconds=0.02)
            if number == 1:
                await gateway.say("scope7", how="exit")
        async with supervisor.keeping(url, connection, "--failures", str(failures)):
            while sum(len(set(numbers)) for numbers in done.values()) < scopes * rounds:
                event = await gateway.heard()
                done[event["id"]].append(event["number"])
            await until(lambda: _all_acknowledged(url, connection))
    [letter] = await letters(url, connection)
    assert letter[b"i"] == b"scope7"
    assert supervisor.deaths == [137] * max(2, failures)
    for numbers in done.values():
        assert list(dict.fromkeys(numbers)) == list(range(rounds))


async def test_those_beside_several_of_them_are_handled_in_order_by_several_workers(
    shared_redis: RealRedis, connection: str, tmp_path: Path
) -> None:
    """The two that kill do so at different times, each while suspects are in hand elsewhere."""
    url, scopes, rounds = shared_redis.url, 50, 3
    done: dict[str, list[int]] = defaultdict(list)
    first, second = Supervisor(tmp_path), Supervisor(tmp_path)
    async with (
        running(Gateway(url, connection)) as gateway,
        first.keeping(url, connection, "--failures", "3"),
        second.keeping(url, connection, "--failures", "3"),
    ):
        for number in range(rounds):
            for scope in range(scopes):
                await gateway.say(f"scope{scope}", number=number, seconds=0.02)
            if number == 1:
                await gateway.say("scope7", how="exit")
                await gateway.say("scope8", how="signal", seconds=0.1)
        while sum(len(set(numbers)) for numbers in done.values()) < scopes * rounds:
            event = await gateway.heard()
            done[event["id"]].append(event["number"])
        await until(lambda: _all_acknowledged(url, connection))
    found = await letters(url, connection)
    assert sorted(letter[b"i"] for letter in found) == [b"scope7", b"scope8"]
    for numbers in done.values():
        assert list(dict.fromkeys(numbers)) == list(range(rounds))


async def _all_acknowledged(url: str, connection: str) -> bool:
    found = await status(url, connection)
    return not any(group.pending + group.lag for each in found.partitions for group in each.groups)


async def test_slow_ones_beside_it_are_handled(
    shared_redis: RealRedis, connection: str, supervisor: Supervisor
) -> None:
    """They take longer than a lease, so they are in hand at each death but the last."""
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        for number in range(3):
            await gateway.say(f"slow{number}", number=number, seconds=2.0)
        await gateway.say("ada", how="signal", seconds=0.2)
        async with supervisor.keeping(url, connection, "--failures", "4"):
            heard = {(await gateway.heard())["number"] for _ in range(3)}
            await until(lambda: _all_acknowledged(url, connection))
    assert heard == {0, 1, 2}
    [letter] = await letters(url, connection)
    assert letter[b"i"] == b"ada"
    assert supervisor.deaths == [-9] * 4


async def test_a_message_that_blocks_its_worker_for_longer_than_a_lease_becomes_a_dead_letter(
    shared_redis: RealRedis, connection: str, supervisor: Supervisor
) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection, partitions=2)) as gateway,
        supervisor.keeping(url, connection, "--failures", "3"),
    ):
        await gateway.say("ada", how="block")
        await gateway.say("ada", number=1)
        assert (await gateway.heard())["number"] == 1
    assert supervisor.deaths == []
    [letter] = await letters(url, connection)
    assert b"stood still for longer than its lease" in letter[b"reason"]


async def test_sys_exit_is_a_failure_and_does_not_end_the_worker(
    shared_redis: RealRedis, connection: str, supervisor: Supervisor
) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection, partitions=2)) as gateway,
        supervisor.keeping(url, connection),
    ):
        await gateway.say("ada", how="sys.exit")
        await gateway.say("ada", number=1)
        assert (await gateway.heard())["number"] == 1
    assert supervisor.deaths == []
    [letter] = await letters(url, connection)
    assert letter[b"reason"] == b"SystemExit: 3"


# What does not count


class Holding:
    """An application that holds each message until it is told to finish it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finish = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()
            self.begun.append(scope["id"])
            await self.finish.wait()


async def records(url: str, connection: str, partition: int = 0) -> list[bytes]:
    async with Redis.from_url(url) as client:
        found = await client.hvals(f"asgiref:{{{connection}/{partition}}}:failures:group")
        return sorted(found)


async def test_a_message_that_is_cut_off_when_its_worker_ends_has_not_failed(
    shared_redis: RealRedis, connection: str
) -> None:
    url, application = shared_redis.url, Holding()
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        await gateway.say("ada")
        for number in range(1, 5):
            server = worker(application, url, connection, failures=2, shutdown_timeout=0)
            async with running(server):
                await until(lambda number=number: len(application.begun) == number)
            assert await records(url, connection) == []
        application.finish.set()
        async with running(worker(application, url, connection, failures=2)) as server:
            await until(lambda: server.handled)
    assert await letters(url, connection) == []


async def test_a_message_that_was_in_hand_when_redis_was_away_has_not_failed(
    own_redis: RealRedis, connection: str
) -> None:
    application = Holding()
    async with (
        running(Gateway(own_redis.url, connection, partitions=1, lease=10)) as gateway,
        Proxy(own_redis.port) as proxy,
    ):
        await gateway.say("ada")
        server = worker(application, proxy.url, connection, failures=2)
        async with running(server):
            for number in range(1, 5):
                await until(lambda number=number: len(application.begun) == number)
                if number < 4:
                    proxy.open.clear()
                    await until(lambda: not server.partitions)
                    proxy.open.set()
                    proxy.cut()
            application.finish.set()
            await until(lambda: server.handled)
        assert server.dead == 0


# Turns


async def make_suspects(url: str, connection: str, scopes: list[str], deaths: int) -> None:
    """Have workers killed that have all of these scopes' messages in hand."""
    async with Redis.from_url(url) as client:
        state, failures = (
            f"asgiref:{{{connection}/0}}:{key}:group" for key in ("state", "failures")
        )
        stream = f"asgiref:{{{connection}/0}}:in"
        await client.xgroup_create(stream, "group", "0", mkstream=True)
        [[_, entries]] = await client.xreadgroup("group", "holder", {stream: ">"})
        assert len(entries) == len(scopes)
        await client.hset(state, mapping={"end": "", "holder": "killed"})
        records = {id: f"{deaths} {deaths} killed" for id, _ in entries}
        await client.hset(failures, mapping=records)


@pytest.mark.parametrize(("failures", "kept"), [(5, b"3 3 turner"), (3, b"2 2 ")])
async def test_suspects_take_turns_and_one_that_takes_long_lets_the_next_begin(
    shared_redis: RealRedis, connection: str, failures: int, kept: bytes
) -> None:
    """In its last attempt it takes ten times as long, and is excused then."""
    url, application = shared_redis.url, Holding()
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        for scope in ("ada", "ben"):
            await gateway.say(scope)
        await make_suspects(url, connection, ["ada", "ben"], 2)
        await gateway.say("cleo")
        settings = {"lease": 0.3, "failures": failures, "name": "turner"}
        async with running(worker(application, url, connection, **settings)) as server:
            await until(lambda: len(application.begun) == 2)
            assert application.begun == ["ada", "cleo"]
            assert await records(url, connection) == [b"2 2 killed", b"3 3 turner"]
            await until(lambda: len(application.begun) == 3)
            assert application.begun[2] == "ben"
            assert await records(url, connection) == [kept, b"3 3 turner"]
            application.finish.set()
            await until(lambda: server.handled == 3)
        assert await records(url, connection) == []


async def test_suspects_are_handled_one_after_the_other_however_many_there_are(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    at_once, most, handled = 0, 0, []

    async def counts(scope: Any, receive: Any, send: Any) -> None:
        nonlocal at_once, most
        while True:
            message = await receive()
            if "redelivered" in message:
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(random.uniform(0, 0.002))
                at_once -= 1
            handled.append(scope["id"])

    scopes = [f"scope{number}" for number in range(100)]
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        for scope in scopes:
            await gateway.say(scope)
        await make_suspects(url, connection, scopes, 3)
        for scope in scopes:
            await gateway.say(scope)
        async with running(worker(counts, url, connection, max_applications=10)) as server:
            await until(lambda: server.handled == 200)
    assert most == 1
    assert sorted(handled) == sorted(2 * scopes)


async def test_a_message_that_failed_before_its_worker_died_keeps_its_failures(
    shared_redis: RealRedis, connection: str
) -> None:
    """Two attempts failed, one died with its worker: two are left of five."""
    url = shared_redis.url

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError(os.getpid())

    async with running(Gateway(url, connection, partitions=1)) as gateway:
        await gateway.say("ada")
        await make_suspects(url, connection, ["ada"], 3)
        async with running(worker(fails, url, connection)) as server:
            await until(lambda: server.dead)
            assert server.failed == 2
    [letter] = await letters(url, connection)
    assert letter[b"attempts"] == b"5"
    assert letter[b"reason"].startswith(b"ValueError")
