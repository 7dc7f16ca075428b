"""Applications and workers that do what is unusual: nothing is lost, and nobody else suffers."""

import asyncio
import logging
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from pieces import Gateway, echo, letters, running, until, worker
from processes import Proxy, worker_process
from real_redis import RealRedis

from asgiref.redis import LeaseLost, RedisWorker

pytestmark = pytest.mark.asyncio


def lose_everything(server: RedisWorker) -> None:
    assert server._holdings is not None
    for partition in list(server._holdings.held.values()):
        partition.lose("the test says so")


# Cancellation


async def test_an_application_that_goes_on_after_its_partition_was_lost_can_do_nothing(
    shared_redis: RealRedis, connection: str
) -> None:
    """And its partition is not taken again beside it."""
    url, begun, gone_on = shared_redis.url, asyncio.Event(), asyncio.Event()
    errors: list[Exception] = []
    runs = 0

    async def goes_on(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            return await echo(scope, receive, send)
        await receive()
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            gone_on.set()
        for call in (lambda: send({"type": "late"}), receive):
            try:
                await call()
            except LeaseLost as error:
                errors.append(error)
        await go_home.wait()
        return None

    go_home = asyncio.Event()
    server = worker(goes_on, url, connection, group="group")
    async with running(Gateway(url, connection, partitions=1)) as gateway, running(server):
        await gateway.say("ada", number=1)
        await begun.wait()
        lose_everything(server)
        await gone_on.wait()
        rounds = server.rounds + 2
        await until(lambda: server.rounds > rounds)
        assert not server.partitions
        assert len(errors) == 2
        go_home.set()
        message = await gateway.heard()
        assert (message["number"], message["redelivered"]) == (1, True)
        assert runs == 2


async def test_an_application_that_does_not_heed_its_cancellation_is_cancelled_again(
    shared_redis: RealRedis, connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, begun = shared_redis.url, asyncio.Event()
    cancellations = 0

    async def does_not_heed(scope: Any, receive: Any, send: Any) -> None:
        nonlocal cancellations
        if cancellations:
            return await echo(scope, receive, send)
        await receive()
        begun.set()
        while cancellations < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1
        return None

    server = worker(does_not_heed, url, connection, shutdown_timeout=0.1)
    async with running(Gateway(url, connection, partitions=1)) as gateway, running(server):
        await gateway.say("ada", number=1)
        await begun.wait()
        lose_everything(server)
        assert (await gateway.heard())["number"] == 1
    assert cancellations == 3
    assert "is not taken again before" in caplog.text


async def test_an_application_that_was_deleted_does_not_finish_the_message_of_the_next_one(
    shared_redis: RealRedis, connection: str
) -> None:
    url, begun = shared_redis.url, asyncio.Queue[int]()
    go_on = asyncio.Event()
    runs = 0

    async def goes_on(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            await receive()
            begun.put_nowait(2)
            await go_on.wait()
            return
        try:
            await receive()
            begun.put_nowait(1)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(RuntimeError):
                await receive()  # which acknowledges the first message
        assert await begun.get() == 2
        begun.put_nowait(3)

    server = worker(goes_on, url, connection)
    async with running(Gateway(url, connection)) as gateway, running(server):
        await gateway.say("ada", number=1)
        await gateway.say("ada", number=2)
        assert await begun.get() == 1
        server.delete_application_instance("ada")
        await until(lambda: not begun.empty() and begun._queue[0] == 3)
        assert server.handled == 1
        go_on.set()
        await until(lambda: server.handled == 2)
        assert server.failed == 0


# Failures of every kind


class Unusual(BaseException):
    pass


@pytest.mark.parametrize(
    "failure",
    [
        Unusual("why"),
        BaseExceptionGroup("several", [Unusual("why"), ValueError()]),
        BaseExceptionGroup("several", [SystemExit(1)]),
        asyncio.CancelledError(),
        GeneratorExit(),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_whatever_an_application_raises_is_a_failure(
    shared_redis: RealRedis, connection: str, failure: BaseException
) -> None:
    url = shared_redis.url

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if message["number"] == 0:
            raise failure
        await send(message)

    server = worker(fails, url, connection, failures=2)
    async with running(Gateway(url, connection)) as gateway, running(server):
        for number in range(2):
            await gateway.say("ada", number=number)
        assert (await gateway.heard())["number"] == 1
    [letter] = await letters(url, connection)
    assert letter[b"reason"].decode().startswith(type(failure).__name__)


async def test_ctrl_c_in_an_application_ends_the_worker_and_is_no_failure(
    shared_redis: RealRedis, connection: str, tmp_path: Path
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        await gateway.say("ada", how="ctrl-c")
        first = worker_process(tmp_path, url, connection, "dies", "--failures", "1")
        try:
            assert await first.ended() == 0
        finally:
            first.clean_up()

        async def finishes(scope: Any, receive: Any, send: Any) -> None:
            await send(await receive())

        async with running(worker(finishes, url, connection)):
            assert (await gateway.heard())["redelivered"]
    assert await letters(url, connection) == []


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_subclass_that_hears_of_failures_changes_nothing(
    shared_redis: RealRedis, connection: str, kind: str
) -> None:
    """As the agents of performance monitors are."""
    heard: list[str] = []

    class Watched(RedisWorker):
        async def application_exception(self, exception: BaseException, details: Any) -> None:
            heard.append(details["scope"]["id"])

    class PlainlyWatched(RedisWorker):
        def application_exception(self, exception: BaseException, details: Any) -> None:  # type: ignore[override]
            heard.append(details["scope"]["id"])

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if "fail" in await receive():
            raise ValueError
        await send({"type": "fine"})

    url = shared_redis.url
    server = (Watched if kind == "async" else PlainlyWatched)(
        fails, url, group="group", connection=connection, lease=1.0, failures=3, retry_delay=0
    )
    async with running(Gateway(url, connection)) as gateway, running(server):
        await gateway.say("ada", fail=True)
        await gateway.say("ada")
        await gateway.heard()
        await until(lambda: len(heard) == 3)
        assert (server.failed, server.dead) == (3, 1)
    assert heard == 3 * ["ada"]


# Many scopes, little room


class Handled:
    """An application that notes what it has handled, and whether it was ever interrupted."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.interrupted = 0
        self.at_once = 0
        self.most = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                for _ in range(message["number"] % 3):
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                self.interrupted += 1
                raise
            self.at_once -= 1
            self.numbers[scope["id"]].append(message["number"])


@pytest.mark.parametrize("room", [1, 2, 7])
async def test_a_hundred_scopes_of_one_partition_share_little_room(
    shared_redis: RealRedis, connection: str, room: int
) -> None:
    url, application = shared_redis.url, Handled()
    server = worker(application, url, connection, max_applications=room, idle_timeout=0.01)
    async with running(Gateway(url, connection, partitions=1)) as gateway, running(server):
        for number in range(10):
            for scope in range(100):
                await gateway.say(f"scope{scope}", number=number)
        await until(lambda: server.handled == 1000)
        assert len(server.application_instances) <= room
        assert (server.failed, server.redelivered) == (0, 0)
    assert application.numbers == {f"scope{scope}": list(range(10)) for scope in range(100)}
    assert application.interrupted == 0
    assert application.most <= room


async def test_a_long_message_is_not_interrupted_for_the_short_ones_of_others(
    shared_redis: RealRedis, connection: str
) -> None:
    """The least recently used application is the one with the long message."""
    url, go_on, failures = shared_redis.url, asyncio.Event(), []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": "begun"})
            if "wait" in message:
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    failures.append(scope["id"])
                    raise

    server = worker(waits, url, connection, max_applications=2)
    async with running(Gateway(url, connection, partitions=1)) as gateway, running(server):
        await gateway.say("long", wait=True)
        await gateway.heard()
        for _ in range(20):
            await asyncio.gather(*(gateway.say(f"scope{number}") for number in range(5)))
        for _ in range(100):
            await gateway.heard()
        assert not failures
        go_on.set()
        await until(lambda: server.handled == 101)
        assert server.failed == 0


async def test_an_application_that_ends_in_the_moment_of_a_message_loses_none(
    shared_redis: RealRedis, connection: str
) -> None:
    url, application = shared_redis.url, Handled()
    server = worker(application, url, connection, idle_timeout=0.002)
    async with running(Gateway(url, connection, partitions=1)) as gateway, running(server):
        for number in range(500):
            await gateway.say("ada", number=number)
            await asyncio.sleep(0.002)
        await until(lambda: server.handled == 500)
        assert server.failed == 0
    assert application.numbers == {"ada": list(range(500))}
    assert application.interrupted == 0


# Receiving in several tasks


async def test_two_tasks_that_receive_get_each_message_once_and_in_order(
    shared_redis: RealRedis, connection: str
) -> None:
    url, numbers = shared_redis.url, list[int]()

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        async def take() -> None:
            while True:
                numbers.append((await receive())["number"])
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            group.create_task(take())

    server = worker(twice, url, connection)
    async with running(Gateway(url, connection)) as gateway, running(server):
        for number in range(200):
            await gateway.say("ada", number=number)
        await until(lambda: len(numbers) == 200)
        assert server.failed == 0
    assert numbers == list(range(200))


# The server around it


async def test_an_application_with_a_lifespan_is_started_and_its_state_is_in_each_scope(
    shared_redis: RealRedis, connection: str
) -> None:
    url, events = shared_redis.url, list[str]()

    async def lives(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            message = await receive()
            return await send({**message, "state": scope["state"]["name"]})
        for phase in ("startup", "shutdown"):
            events.append((await receive())["type"])
            scope["state"]["name"] = "started"
            await send({"type": f"lifespan.{phase}.complete"})
        return None

    server = worker(lives, url, connection, lifespan=True)
    async with running(Gateway(url, connection)) as gateway, running(server):
        await gateway.say("ada")
        assert (await gateway.heard())["state"] == "started"
    assert events == ["lifespan.startup", "lifespan.shutdown"]


async def test_two_workers_of_one_name_are_two(shared_redis: RealRedis, connection: str) -> None:
    url = shared_redis.url
    one, other = (worker(echo, url, connection, name="twin") for _ in range(2))
    async with running(Gateway(url, connection)) as gateway, running(one), running(other):
        await until(lambda: (len(one.partitions), len(other.partitions)) == (4, 4))
        rounds = one.rounds + 3
        await until(lambda: one.rounds > rounds)
        for number in range(20):
            await gateway.say(f"scope{number}")
        for _ in range(20):
            assert "redelivered" not in await gateway.heard()
        assert (len(one.partitions), len(other.partitions)) == (4, 4)
        assert not set(one.partitions) & set(other.partitions)


async def test_a_second_sigterm_ends_a_worker_whose_application_does_not(
    shared_redis: RealRedis, connection: str, tmp_path: Path
) -> None:
    url = shared_redis.url
    process = worker_process(tmp_path, url, connection, "holds", "--shutdown-timeout", "100")
    try:
        async with running(Gateway(url, connection)) as gateway:
            await gateway.say("ada", number=1)
            await gateway.heard()
            process.send(signal.SIGTERM)
            await until(lambda: "is given back" in process.text())
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
            async with running(worker(echo, url, connection)):
                assert (await gateway.heard())["redelivered"]
    finally:
        process.clean_up()


@pytest.mark.parametrize("away", ["silent", "down"])
async def test_sigterm_ends_a_worker_while_redis_is_away(
    own_redis: RealRedis, connection: str, tmp_path: Path, away: str
) -> None:
    async with (
        Proxy(own_redis.port) as proxy,
        running(Gateway(own_redis.url, connection)) as gateway,
    ):
        process = worker_process(
            tmp_path, proxy.url, connection, "holds", "--shutdown-timeout", "1", "--lease", "60"
        )
        try:
            await gateway.say("ada", number=1)
            await gateway.heard()
            if away == "silent":
                proxy.open.clear()
            else:
                proxy.refuse()
            process.send(signal.SIGTERM)
            started = asyncio.get_running_loop().time()
            assert await process.ended() == 0
            logging.info("It took %.1f s", asyncio.get_running_loop().time() - started)
        finally:
            process.clean_up()
