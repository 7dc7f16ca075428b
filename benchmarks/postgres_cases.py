"""One process of `postgres_echo`: ``python postgres_cases.py WAY ROLE URL SCOPES NUMBER``.

Each line of standard input tells a gateway how many messages to send (`Order`). The gateway answers
with a line of JSON (`Trip`) when every echo is back. A worker echoes until it is killed. Both print
``ready``.

All ways carry the same messages, a dict with a number and a text for the id of a scope, and
acknowledge a message after it has been handled.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["WORKERS", "Order", "Trip"]

WORKERS = 2
#: The number of messages in flight when the gateway sends as fast as it can.
WINDOW = 2_000
#: The number of rows in each statement of the bare loop.
BATCH = 100
TEXT = "x" * 50


@dataclass(frozen=True, slots=True)
class Order:
    """A number of messages and a rate per second; a rate of 0 means as fast as possible."""

    messages: int
    rate: float = 0

    def __str__(self) -> str:
        return f"{self.messages} {self.rate}"

    @classmethod
    def read(cls, line: str) -> "Order":
        messages, rate = line.split()
        return cls(int(messages), float(rate))


@dataclass(frozen=True, slots=True)
class Trip:
    """The result of an order: total seconds, and quantiles of the latency in milliseconds."""

    seconds: float
    p50: float
    p99: float


class Echoes:
    """The messages and echoes of one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._due = [0.0] * order.messages
        self._took: dict[int, float] = {}
        self._window = asyncio.Semaphore(WINDOW)
        self._done = asyncio.Event()

    async def run(self, put: Callable[[int], Awaitable[None]]) -> Trip:
        time = asyncio.get_running_loop().time
        start = time()
        for number in range(self._order.messages):
            self._due[number] = await self._turn(start, number)
            await put(number)
        await self._done.wait()
        took, ordered = time() - start, sorted(self._took.values())
        return Trip(took, *(1000 * ordered[int(share * len(ordered))] for share in (0.5, 0.99)))

    async def _turn(self, start: float, number: int) -> float:
        """Wait until a message may be sent; return the time when it was due."""
        time = asyncio.get_running_loop().time
        if not self._order.rate:
            await self._window.acquire()
            return time()
        due = start + number / self._order.rate
        if (early := due - time()) > 0:
            await asyncio.sleep(early)
        return due

    def receive(self, number: int) -> None:
        if number not in self._took:
            self._took[number] = asyncio.get_running_loop().time() - self._due[number]
            self._window.release()
            if len(self._took) == self._order.messages:
                self._done.set()


async def orders() -> AsyncIterator[Order]:
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield Order.read(line)


def report(trip: Trip) -> None:
    print(json.dumps(asdict(trip)), flush=True)


def message_of(number: int) -> dict[str, Any]:
    return {"type": "say", "n": number, "text": TEXT}


# Ours


async def gateway_ours(url: str, scopes: int, _number: int) -> None:
    from asgiref.postgres import PostgresGateway

    class Gateway(PostgresGateway):
        async def handle(self) -> None:
            async for order in orders():
                self.echoes = Echoes(order)
                report(await self.echoes.run(self.put))

        async def put(self, number: int) -> None:
            name = f"scope{number % scopes}"
            queue = self.get_or_create_application_instance(name, {"type": "t", "id": name})
            await queue.put(message_of(number))

        async def application_send(self, scope: Any, message: Any) -> None:
            self.echoes.receive(message["n"])

    await Gateway(url).arun()


async def worker_ours(url: str, scopes: int, _number: int) -> None:
    from asgiref.postgres import PostgresWorker

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await send(await receive())

    async def tell_when_ready() -> None:
        while not worker.partitions:  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.05)
        print("ready", flush=True)

    worker = PostgresWorker(application, url, max_applications=scopes + 1)
    telling = asyncio.create_task(tell_when_ready())
    await worker.arun()
    await telling


# A bare loop of batches

TABLES = """
CREATE TABLE IF NOT EXISTS bare_in (id bigserial PRIMARY KEY, worker integer, message bytea);
CREATE TABLE IF NOT EXISTS bare_out (id bigserial PRIMARY KEY, message bytea);
CREATE INDEX IF NOT EXISTS bare_in_worker ON bare_in (worker, id);
ALTER TABLE bare_in SET (autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE bare_out SET (autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0)
"""
GATEWAY_STEP = f"""
WITH new AS (INSERT INTO bare_in (worker, message) SELECT * FROM unnest($1::int[], $2::bytea[]))
DELETE FROM bare_out WHERE id IN (SELECT id FROM bare_out ORDER BY id LIMIT {BATCH})
RETURNING message
"""
WORKER_STEP = f"""
WITH new AS (INSERT INTO bare_out (message) SELECT * FROM unnest($1::bytea[]))
DELETE FROM bare_in WHERE id IN (SELECT id FROM bare_in WHERE worker = $2 ORDER BY id LIMIT {BATCH})
RETURNING message
"""
#: The pause before the next read if there was nothing to do.
PAUSE = 0.001


async def gateway_bare(url: str, scopes: int, _number: int) -> None:
    import asyncpg

    waiting: list[int] = []
    running: Echoes | None = None

    async def put(number: int) -> None:
        waiting.append(number)
        await asyncio.sleep(0)

    async def carry() -> None:
        step = await connection.prepare(GATEWAY_STEP)
        while True:
            batch, waiting[:BATCH] = waiting[:BATCH], []
            workers = [number % scopes % WORKERS for number in batch]
            data = [json.dumps(message_of(number)).encode() for number in batch]
            found = await step.fetch(workers, data)
            for row in found:
                assert running is not None
                running.receive(json.loads(row[0])["n"])
            if not found and not waiting:
                await asyncio.sleep(PAUSE)

    connection = await asyncpg.connect(url)
    await connection.execute(TABLES)
    carrying = asyncio.create_task(carry())
    async for order in orders():
        running = Echoes(order)
        report(await running.run(put))
    carrying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await carrying


async def worker_bare(url: str, _scopes: int, number: int) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    step = await connection.prepare(WORKER_STEP)
    echoes: list[bytes] = []
    print("ready", flush=True)
    while True:
        found = await step.fetch(echoes, number)
        echoes = [json.dumps(json.loads(row[0])).encode() for row in found]
        if not found:
            await asyncio.sleep(PAUSE)


# Channels, which has no scopes: any worker gets the messages of the one channel


def channel_layer(url: str) -> Any:
    from channels_redis.core import RedisChannelLayer

    # The layer blocks for five seconds, which is also the default read timeout of new redis-py.
    return RedisChannelLayer(hosts=[{"address": url, "socket_timeout": 60}], capacity=1_000_000)


async def gateway_channels(url: str, _scopes: int, _number: int) -> None:
    layer = channel_layer(url)
    running: Echoes | None = None

    async def put(number: int) -> None:
        await layer.send("bench", message_of(number))

    async def carry() -> None:
        while True:
            message = await layer.receive("bench-echoes")
            assert running is not None
            running.receive(message["n"])

    carrying = asyncio.create_task(carry())
    async for order in orders():
        running = Echoes(order)
        report(await running.run(put))
    carrying.cancel()


async def worker_channels(url: str, _scopes: int, _number: int) -> None:
    from channels.worker import Worker

    layer = channel_layer(url)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await layer.send("bench-echoes", await receive())

    print("ready", flush=True)
    await Worker(application, ["bench"], layer).arun()


ROLES = {
    ("here", "gateway"): gateway_ours,
    ("here", "worker"): worker_ours,
    ("bare loop", "gateway"): gateway_bare,
    ("bare loop", "worker"): worker_bare,
    ("Channels", "gateway"): gateway_channels,
    ("Channels", "worker"): worker_channels,
}


def main(way: str, role: str, url: str, scopes: str, number: str) -> None:
    asyncio.run(ROLES[way, role](url, int(scopes), int(number)))


if __name__ == "__main__":
    main(*sys.argv[1:])
