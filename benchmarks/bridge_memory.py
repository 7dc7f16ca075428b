"""Count the leftovers of calls: threads, loops, tasks, descriptors, contexts, RSS.

``python bridge_memory.py THOUSANDS`` makes that many thousands of calls of each kind, in an
environment with the components of this repository, and prints JSON. An additional tenth of the
calls is not counted, because it fills pools and allocators. A case misses its target if any count
grew, or RSS grew by 1 MB or more.
"""

import asyncio
import contextlib
import contextvars
import gc
import json
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import psutil
from record import Measured

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async

LIMIT_KB = 1024
PROCESS = psutil.Process()


def returns(argument: object) -> None:
    pass


def fails(argument: object) -> None:
    raise ValueError("failed")


def on_loop(call: Callable[[object], Awaitable[None]]) -> Callable[[], None]:
    async def calls() -> None:
        for _ in range(1000):
            with contextlib.suppress(ValueError):
                await call(object())

    return lambda: asyncio.run(calls())


async def in_its_own_context(argument: object) -> None:
    async with ThreadSensitiveContext():
        await sync_to_async(returns)(argument)


async def returns_async(argument: object) -> None:
    await sync_to_async(returns)(argument)


async def fails_async(argument: object) -> None:
    fails(argument)


def from_sync() -> None:
    for _ in range(500):
        async_to_sync(returns_async)(object())
        with contextlib.suppress(ValueError):
            async_to_sync(fails_async)(object())


CASES: dict[str, Callable[[], None]] = {
    "sensitive": on_loop(sync_to_async(returns)),
    "sensitive, raising": on_loop(sync_to_async(fails)),
    "parallel": on_loop(sync_to_async(returns, thread_sensitive=False)),
    "a context each": on_loop(in_its_own_context),
    "top level, half of them raising": from_sync,
    "below async code": lambda: asyncio.run(sync_to_async(from_sync)()),
}
KINDS = asyncio.AbstractEventLoop, asyncio.Task, contextvars.Context


def left_behind() -> Counter[str]:
    # Worker threads may still be returning to their pool after their last results.
    SyncToAsync.single_thread_executor.submit(int).result()
    async_to_sync(sync_to_async(int, thread_sensitive=False))()
    gc.collect()
    counted = Counter(threads=threading.active_count(), descriptors=PROCESS.num_fds())
    for thing in gc.get_objects():
        counted.update(f"{kind.__name__} objects" for kind in KINDS if isinstance(thing, kind))
    return counted


def measure(name: str, calls: Callable[[], None], thousands: int) -> Measured:
    for _ in range(max(1, thousands // 10)):
        calls()
    before, rss = left_behind(), PROCESS.memory_info().rss
    for _ in range(thousands):
        calls()
    more = left_behind() - before
    growth = (PROCESS.memory_info().rss - rss) / 1024
    note = ", ".join(f"{count} {kind}" for kind, count in more.items()) or "nothing"
    columns = {"RSS growth": f"{growth:.0f} kB", "more than before": note}
    met = growth < LIMIT_KB and not more
    return Measured(name, growth, met, limits={"limit": LIMIT_KB}, columns=columns)


if __name__ == "__main__":
    thousands = int(sys.argv[1])
    print(json.dumps([asdict(measure(*case, thousands)) for case in CASES.items()]))
