"""The worker side: time the case that the command line names, as a pyperf worker process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import pyperf

#: Takes a number of calls and returns their time in seconds.
Measure = Callable[[int], float]


def answer(cases: Mapping[str, Measure]) -> None:
    runner = pyperf.Runner()
    runner.argparser.add_argument("--case", choices=cases, required=True, help="the case")
    case = runner.parse_args().case
    runner.bench_time_func(case, cases[case])


def on_loop(measured: Callable[[int], Awaitable[object]]) -> Measure:
    """Time a coroutine function that makes a given number of calls, on a new event loop."""

    async def main(count: int) -> float:
        begin = time.perf_counter()
        await measured(count)
        return time.perf_counter() - begin

    return lambda count: asyncio.run(main(count))


def each(call: Callable[[], Awaitable[object]], at_once: int = 1) -> Measure:
    """Time asynchronous calls, one after the other or a given number at once."""
    return on_loop(lambda count: repeat(call, count, at_once))


async def repeat(call: Callable[[], Awaitable[object]], count: int, at_once: int = 1) -> None:
    async def together() -> None:
        await asyncio.gather(*[call() for _ in range(at_once)])

    turn = call if at_once == 1 else together
    for _ in range(count // at_once):
        await turn()


def on_thread(call: Callable[[], object]) -> Measure:
    """Time calls on the current thread, one after the other."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - begin

    return run
