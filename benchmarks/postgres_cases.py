"""One process of `postgres_echo`: ``python postgres_cases.py WAY ROLE URL SCOPES NUMBER``.

Each line of standard input tells a gateway how many messages to send, and at which rate. The
gateway answers with a line of JSON (`Trip`) when every echo is back. A worker echoes until it is
killed. Both print ``ready``. NUMBER tells the processes of a ROLE apart.

All ways send the same messages, dicts with a number and a text, to scopes named by an id. They
acknowledge a message after it has been handled.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

WORKERS = 2
#: The number of messages in flight when the gateway sends as fast as it can.
WINDOW = 2_000
#: The number of rows in each statement of the bare loop, and its pause if there was nothing to do.
BATCH, PAUSE = 100, 0.001
TEXT = "x" * 50
#: The result of one run: total seconds, and quantiles of the latency in milliseconds.
Trip = dict[str, float]
Put = Callable[[int], Awaitable[None]]


class Echoes:
    """Runs of messages, one after the other, and their echoes."""

    async def serve(self, put: Put) -> None:
        """Start a run for each line of standard input: a number of messages, and a rate."""
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await self.run(put, *json.loads(line))), flush=True)

    async def run(self, put: Put, messages: int, rate: float = 0) -> Trip:
        """Send messages at a rate per second, or as fast as possible with 0."""
        time = asyncio.get_running_loop().time
        self._due, self._took = [0.0] * messages, dict[int, float]()
        self._window, self._done = asyncio.Semaphore(WINDOW), asyncio.Event()
        start = time()
        for number in range(messages):
            if not rate:
                await self._window.acquire()
            elif (early := start + number / rate - time()) > 0:
                await asyncio.sleep(early)
            self._due[number] = start + number / rate if rate else time()
            await put(number)
        await self._done.wait()
        took, ordered = time() - start, sorted(self._took.values())
        p50, p99 = (1000 * ordered[int(share * len(ordered))] for share in (0.5, 0.99))
        return {"seconds": took, "p50": p50, "p99": p99}

    def receive(self, number: int) -> None:
        if number not in self._took:
            self._took[number] = asyncio.get_running_loop().time() - self._due[number]
            self._window.release()
            if len(self._took) == len(self._due):
                self._done.set()


async def relay(put: Put, receive: Callable[[], Awaitable[list[int]]]) -> None:
    """Run the messages, while ``receive`` returns the numbers of the echoes."""
    echoes = Echoes()

    async def carry() -> None:
        while True:
            for number in await receive():
                echoes.receive(number)

    carrying = asyncio.create_task(carry())
    await echoes.serve(put)
    carrying.cancel()


def message_of(number: int) -> dict[str, Any]:
    return {"type": "say", "n": number, "text": TEXT}


# Ours


async def gateway_ours(url: str, scopes: int, _number: int) -> None:
    from asgiref.postgres import PostgresGateway

    class Gateway(PostgresGateway):
        async def handle(self) -> None:
            await echoes.serve(self.put)

        async def put(self, number: int) -> None:
            name = f"scope{number % scopes}"
            queue = self.get_or_create_application_instance(name, {"type": "t", "id": name})
            await queue.put(message_of(number))

        async def application_send(self, scope: Any, message: Any) -> None:
            echoes.receive(message["n"])

    echoes = Echoes()
    await Gateway(url).arun()


async def worker_ours(url: str, scopes: int, _number: int) -> None:
    from asgiref.postgres import PostgresWorker

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await send(await receive())

    worker = PostgresWorker(application, url, max_applications=scopes + 1)
    running = asyncio.create_task(worker.arun())
    while not worker.partitions:  # noqa: ASYNC110  # no event to wait for
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await running


# A bare loop of batches


async def statements(url: str) -> tuple[Any, ...]:
    """Create the tables; return the steps of a gateway and of a worker."""
    import asyncpg

    connection = await asyncpg.connect(url)
    text = Path(__file__).with_name("bare_loop.sql").read_text("utf-8")
    tables, *steps = text.split("-- step of")
    await connection.execute(tables)
    # As in ours: plans must not change with the statistics of a table that is nearly empty.
    for plan in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
        await connection.execute(f"SET enable_{plan} = off")
    return tuple([await connection.prepare(f"--{step}") for step in steps])


async def gateway_bare(url: str, scopes: int, _number: int) -> None:
    waiting: list[int] = []
    step, _ = await statements(url)

    async def put(number: int) -> None:
        waiting.append(number)
        await asyncio.sleep(0)

    async def receive() -> list[int]:
        batch, waiting[:BATCH] = waiting[:BATCH], []
        workers = [number % scopes % WORKERS for number in batch]
        data = [json.dumps(message_of(number)).encode() for number in batch]
        found = await step.fetch(workers, data, BATCH)
        if not found and not waiting:
            await asyncio.sleep(PAUSE)
        return [json.loads(row[0])["n"] for row in found]

    await relay(put, receive)


async def worker_bare(url: str, _scopes: int, number: int) -> None:
    _, step = await statements(url)
    echoes: list[bytes] = []
    print("ready", flush=True)
    while True:
        found = await step.fetch(echoes, number, BATCH)
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

    async def put(number: int) -> None:
        await layer.send("bench", message_of(number))

    async def receive() -> list[int]:
        return [(await layer.receive("bench-echoes"))["n"]]

    await relay(put, receive)


async def worker_channels(url: str, _scopes: int, _number: int) -> None:
    from channels.worker import Worker

    layer = channel_layer(url)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await layer.send("bench-echoes", await receive())

    print("ready", flush=True)
    await Worker(application, ["bench"], layer).arun()


PROCESSES: dict[str, dict[str, Callable[[str, int, int], Coroutine[Any, Any, None]]]] = {
    "here": {"gateway": gateway_ours, "worker": worker_ours},
    "bare loop": {"gateway": gateway_bare, "worker": worker_bare},
    "Channels": {"gateway": gateway_channels, "worker": worker_channels},
}

if __name__ == "__main__":
    way, role, url, scopes, number = sys.argv[1:]
    asyncio.run(PROCESSES[way][role](url, int(scopes), int(number)))
