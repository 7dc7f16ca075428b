"""The measured operations of `StatelessServer`. A pyperf worker runs it in each environment.

The cases measure the server, so their application is minimal: it waits for messages and counts them
as long as its scope lives. asgiref's checker runs during all cases, as in a real server.
"""

import asyncio
import functools
import gc
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from measured import Measure, answer

from asgiref.server import StatelessServer

#: The number of messages to queue before the applications run, as after reading a busy socket.
BATCH = 100


class Server(StatelessServer):
    """A server whose `run` is never called: each case drives it."""

    def __init__(self, scopes: int) -> None:
        super().__init__(self.count_messages, max_applications=scopes)
        self.scopes = scopes
        self.oldest = self.received = 0

    async def count_messages(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()
            self.received += 1

    def queue(self, number: int) -> "asyncio.Queue[Any]":
        return self.get_or_create_application_instance(number, {"type": "test", "number": number})

    async def fill(self) -> None:
        """Create idle scopes up to the limit."""
        for number in range(self.oldest, self.oldest + self.scopes):
            self.queue(number)
        await turns()


async def turns() -> None:
    """Let the applications run until they wait again."""
    for _ in range(2):
        await asyncio.sleep(0)


RUNNER = asyncio.Runner()


@functools.cache
def running_server(scopes: int) -> tuple[Server, asyncio.Task[None]]:
    server = Server(scopes)
    return server, asyncio.create_task(server.application_checker())


def with_scopes(scopes: int, act: Callable[[Server, int], Awaitable[None]]) -> Measure:
    async def main(count: int) -> float:
        server, _ = running_server(scopes)
        await server.fill()
        begin = time.perf_counter()
        await act(server, count)
        return time.perf_counter() - begin

    return lambda count: RUNNER.run(main(count))


async def messages(server: Server, count: int) -> None:
    """Send messages to all scopes in turn, each from its look-up to its receipt."""
    before = server.received
    for first in range(0, count, BATCH):
        for number in range(first, first + BATCH):
            server.queue(server.oldest + number % server.scopes).put_nowait(number)
        await turns()
    assert server.received - before == count


async def evictions(server: Server, count: int) -> None:
    """Evict scopes, until their applications have been cancelled."""
    for _ in range(count):
        server.delete_oldest_application_instance()
    await turns()
    server.oldest += count


async def replacements(server: Server, count: int) -> None:
    """Add scopes at the limit, each until it waits and the evicted one has ended."""
    for number in range(count):
        server.queue(server.oldest + server.scopes + number)
        await turns()
    server.oldest += count


async def idle(count: int) -> float:
    """Measure the percentage of a core that idle scopes use in ``count`` tenths of a second."""
    await running_server(50_000)[0].fill()
    cpu = time.process_time()
    await asyncio.sleep(count / 10)
    return 1000 * (time.process_time() - cpu) / 1e6


kept: list[Server] = []


async def memory(count: int) -> float:
    """Measure the total bytes of this many scopes, each of which has received a message."""
    server = Server(count)
    kept.append(server)  # Freed memory would serve the next server, which would seem to use none.
    gc.collect()
    before = psutil.Process().memory_info().rss
    await server.fill()
    await messages(server, count)
    gc.collect()
    return float(psutil.Process().memory_info().rss - before) / 1e6


CASES: dict[str, Measure] = {
    "message, 1,000 scopes": with_scopes(1_000, messages),
    "message, 10,000 scopes": with_scopes(10_000, messages),
    "message, 50,000 scopes": with_scopes(50_000, messages),
    "eviction, 5,000 scopes": with_scopes(5_000, evictions),
    "new scope at the limit of 5,000": with_scopes(5_000, replacements),
    "50,000 idle scopes, share of a core": lambda count: RUNNER.run(idle(count)),
    "memory of an idle scope": lambda count: RUNNER.run(memory(count)),
}

if __name__ == "__main__":
    answer(CASES)
    os._exit(0)  # a normal exit would report every pending task
