"""The measured operations of `StatelessServer`. Runs in its own environment, on request.

The cases measure the server, so their application is minimal: it waits for messages and counts them
as long as its scope lives. asgiref's checker runs during all cases, as in a real server.
"""

import asyncio
import functools
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from measured import answer

from asgiref.server import StatelessServer

#: The number of messages to queue before the applications run, as after reading a busy socket.
BATCH = 100


class Server(StatelessServer):
    """A server whose `run` is never called: each case drives it."""

    def __init__(self, scopes: int) -> None:
        super().__init__(self.count_messages, max_applications=scopes)
        self.scopes = scopes
        self.oldest = 0
        self.received = 0
        self.ended = 0

    async def count_messages(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            while True:
                await receive()
                self.received += 1
        finally:
            self.ended += 1

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


class Bench:
    """A server with idle scopes, and the event loop that keeps it between measurements."""

    def __init__(self, scopes: int) -> None:
        self.runner = asyncio.Runner()
        self.server = Server(scopes)
        self.run(self.begin())

    async def begin(self) -> None:
        self.checker = asyncio.create_task(self.server.application_checker())
        await self.server.fill()

    def run(self, measure: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(measure)


bench = functools.cache(Bench)


def messages(scopes: int) -> Callable[[int], float]:
    """Measure messages to all scopes in turn, each from its look-up to its receipt."""

    async def send(server: Server, count: int) -> float:
        before = server.received
        begin = time.perf_counter()
        for first in range(0, count, BATCH):
            for number in range(first, first + BATCH):
                server.queue(server.oldest + number % scopes).put_nowait(number)
            await turns()
        seconds = time.perf_counter() - begin
        assert server.received - before == count
        return seconds

    return lambda count: bench(scopes).run(send(bench(scopes).server, count))


def evictions(scopes: int) -> Callable[[int], float]:
    """Measure evictions, each until the application has been cancelled."""

    async def evict(server: Server, count: int) -> float:
        await server.fill()
        before = server.ended
        begin = time.perf_counter()
        for _ in range(count):
            server.delete_oldest_application_instance()
        await turns()
        seconds = time.perf_counter() - begin
        assert server.ended - before == count
        server.oldest += count
        return seconds

    return lambda count: bench(scopes).run(evict(bench(scopes).server, count))


def replacements(scopes: int) -> Callable[[int], float]:
    """Measure new scopes at the limit, each until it waits and the evicted one has ended."""

    async def replace(server: Server, count: int) -> float:
        await server.fill()
        begin = time.perf_counter()
        for number in range(count):
            server.queue(server.oldest + scopes + number)
            await turns()
        seconds = time.perf_counter() - begin
        server.oldest += count
        return seconds

    return lambda count: bench(scopes).run(replace(bench(scopes).server, count))


def idle(scopes: int) -> Callable[[int], float]:
    """Measure the per cent of a core that idle scopes use in `count` tenths of a second."""

    async def wait(seconds: float) -> float:
        begin, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        return 100 * (time.process_time() - cpu) / (time.perf_counter() - begin)

    return lambda count: bench(scopes).run(wait(count / 10)) * count / 1e6


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory(count: int) -> float:
    """Measure the total bytes of this many scopes, each of which has received a message."""
    command = [sys.executable, __file__, "memory", str(count)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) / 1e6


async def take_memory(scopes: int) -> int:
    server = Server(scopes)
    gc.collect()
    before = resident()
    await server.fill()
    for number in range(scopes):
        server.queue(number).put_nowait(number)
        if number % BATCH == 0:
            await turns()
    await turns()
    gc.collect()
    return resident() - before


CASES: dict[str, Callable[[int], float]] = {
    "message, 1,000 scopes": messages(1_000),
    "message, 10,000 scopes": messages(10_000),
    "message, 50,000 scopes": messages(50_000),
    "eviction, 5,000 scopes": evictions(5_000),
    "new scope at the limit of 5,000": replacements(5_000),
    "50,000 idle scopes": idle(50_000),
    "a scope": memory,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        print(asyncio.run(take_memory(int(sys.argv[2]))))
    else:
        answer(CASES)
        os._exit(0)  # a normal exit would report every pending task
