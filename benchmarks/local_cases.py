"""The measured operations of `Local`. A pyperf worker runs it in each environment.

The body of the loop repeats a statement ten times, so that the loop itself adds little.
"""

import asyncio
import threading
import timeit
from collections.abc import Callable
from typing import Any

from measured import Measure, answer

from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async

Statement = Callable[[Any, int], float]


def timed(statement: str) -> Statement:
    """Return a function that runs a statement, which uses `local`, a given number of times."""

    def run(local: Any, count: int) -> float:
        names, body = {"given": local}, "; ".join([statement] * 10)
        return timeit.timeit(body, "local = given", number=count // 10, globals=names)

    return run


read, write = timed("local.value"), timed("local.value = 1")


def filled(local: Any, attributes: int = 0) -> Any:
    for number in range(attributes):
        setattr(local, f"other{number}", number)
    local.value = 0
    return local


def in_sync_code(measure: Statement, attributes: int = 0, **options: bool) -> Measure:
    return lambda count: measure(filled(Local(**options), attributes), count)


async def called(function: Callable[..., float], *arguments: Any) -> float:
    return function(*arguments)


def in_async_code(measure: Statement, attributes: int = 0, **options: bool) -> Measure:
    return lambda count: asyncio.run(called(in_sync_code(measure, attributes, **options), count))


def below_async_code(count: int) -> float:
    async def main() -> float:
        return await sync_to_async(read)(filled(Local()), count)

    return asyncio.run(main())


CASES: dict[str, Measure] = {
    "read, set by async code": in_async_code(read),
    "read in sync code below": below_async_code,
    "read in async code below": lambda count: async_to_sync(called)(read, filled(Local()), count),
    "read, thread_critical, async": in_async_code(read, thread_critical=True),
    "read, thread_critical, sync": in_sync_code(read, thread_critical=True),
    "read, set by plain sync code": in_sync_code(read),
    "write in async code": in_async_code(write),
    "write in sync code": in_sync_code(write),
    "write, thread_critical": in_sync_code(write, thread_critical=True),
    "write beside 30 others": in_async_code(write, 30),
    "write beside 30 others, sync": in_sync_code(write, 30),
    "reading a `threading.local`": lambda count: read(filled(threading.local()), count),
}

if __name__ == "__main__":
    answer(CASES)
