"""A gateway that a test drives, applications, and workers in this process."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from asgiref.redis import RedisGateway, RedisWorker

LEASE = 1.0


class Gateway(RedisGateway):
    """``handle`` waits for the test to end; what comes back is in ``sent``."""

    def __init__(self, url: str, connection: str, **settings: Any) -> None:
        super().__init__(url, connection, **{"partitions": 8, "lease": LEASE, **settings})
        self.sent: asyncio.Queue[tuple[dict[str, Any], dict[str, Any], Any]] = asyncio.Queue()
        self.ready = asyncio.Event()

    async def handle(self) -> None:
        self.ready.set()
        await asyncio.Event().wait()

    async def application_send(self, scope: Any, message: Any) -> None:
        self.sent.put_nowait((scope, message, self.delivery))

    async def say(self, scope_id: str, **message: Any) -> None:
        await self.store(scope_id, {"type": "test", "id": scope_id}, {"type": "say", **message})

    async def heard(self) -> dict[str, Any]:
        return (await self.sent.get())[1]


@asynccontextmanager
async def running(server: Any) -> AsyncIterator[Any]:
    """Run a gateway or worker during the block, and end it as a cancellation does.

    One that ends too early cancels the block, which then raises what the server raised.
    """

    def ended_early(_: object) -> None:
        if block is not None and not leaving:
            block.cancel()

    block, leaving = asyncio.current_task(), False
    task = asyncio.ensure_future(server.arun())
    task.add_done_callback(ended_early)
    try:
        if isinstance(server, Gateway):
            ready = asyncio.ensure_future(server.ready.wait())
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if task.done():
                task.result()
        yield server
    finally:
        leaving = True
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


def worker(application: Any, url: str, connection: str, **settings: Any) -> RedisWorker:
    settings = {"group": "group", "lease": LEASE, "retry_delay": 0.01, **settings}
    return RedisWorker(application, url, connection=connection, **settings)


async def until(reached: Callable[[], Any]) -> None:
    """Wait for something that happens in a server's tasks, another process or Redis.

    ``reached`` may be a coroutine function. There is nothing to wait on but time.
    """
    while True:
        found = reached()
        if await found if inspect.isawaitable(found) else found:
            return
        await asyncio.sleep(0.01)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends everything back."""
    while True:
        message = await receive()
        await send({**message, "scope": scope["id"]})


async def letters(url: str, connection: str, partitions: int = 8) -> list[dict[bytes, bytes]]:
    """The dead letters of a connection."""
    async with Redis.from_url(url) as client:
        found = []
        for number in range(partitions):
            key = f"asgiref:{{{connection}/{number}}}:dead"
            found += [fields for _, fields in await client.xrange(key)]
        return found
