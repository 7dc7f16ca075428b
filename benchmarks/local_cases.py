"""The measured operations of `Local`. Runs in its own environment, on request.

The body of the loop repeats a statement ten times, so that the loop itself hardly counts.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

from measured import answer

from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async


def timed(statement: str) -> Callable[[Any, int], float]:
    """Return a function that runs `statement`, which uses `local`, a given number of times."""
    source = "def run(local, count):\n for _ in range(count // 10):\n  " + "\n  ".join(
        [statement] * 10
    )
    names: dict[str, Any] = {}
    exec(source, names)

    def run(local: Any, count: int) -> float:
        names["run"](local, 1000)
        begin = time.perf_counter()
        names["run"](local, count)
        return time.perf_counter() - begin

    return run


read, write = timed("local.value"), timed("local.value = 1")


def with_attributes(local: Any, count: int) -> Any:
    for number in range(count):
        setattr(local, f"other{number}", number)
    local.value = 0
    return local


def in_async_code(
    measure: Callable[[Any, int], float], attributes: int = 0, **options: bool
) -> Callable[[int], float]:
    async def main(count: int) -> float:
        return measure(with_attributes(Local(**options), attributes), count)

    return lambda count: contextvars.Context().run(asyncio.run, main(count))


def in_sync_code(
    measure: Callable[[Any, int], float], attributes: int = 0, **options: bool
) -> Callable[[int], float]:
    def run(count: int) -> float:
        return measure(with_attributes(Local(**options), attributes), count)

    return lambda count: contextvars.Context().run(run, count)


def below_async_code(count: int) -> float:
    async def main() -> float:
        local = with_attributes(Local(), 0)
        return await sync_to_async(read)(local, count)

    return contextvars.Context().run(asyncio.run, main())


def below_sync_code(count: int) -> float:
    async def main(local: Local) -> float:
        return read(local, count)

    def run() -> float:
        return async_to_sync(main)(with_attributes(Local(), 0))

    return contextvars.Context().run(run)


def of_threading_local(count: int) -> float:
    return read(with_attributes(threading.local(), 0), count)


CASES: dict[str, Callable[[int], float]] = {
    "read, set by async code": in_async_code(read),
    "read in sync code below": below_async_code,
    "read in async code below": below_sync_code,
    "read, thread_critical, async": in_async_code(read, thread_critical=True),
    "read, thread_critical, sync": in_sync_code(read, thread_critical=True),
    "read, set by plain sync code": in_sync_code(read),
    "write in async code": in_async_code(write),
    "write in sync code": in_sync_code(write),
    "write, thread_critical": in_sync_code(write, thread_critical=True),
    "write beside 30 others": in_async_code(write, 30),
    "write beside 30 others, sync": in_sync_code(write, 30),
    "threading.local": of_threading_local,
    "async write": in_async_code(write),
    "sync write": in_sync_code(write),
}

if __name__ == "__main__":
    answer(CASES)
