"""The worker side: time the case that the command line names, as a worker process of pyperf."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import pyperf

#: Takes a number of calls and returns their time in seconds.
Measure = Callable[[int], float]


def answer(cases: Mapping[str, Measure]) -> None:
    runner = pyperf.Runner()
    runner.argparser.add_argument(
        "--case", choices=cases, required=True, help="the case to measure"
    )
    case = runner.parse_args().case
    runner.bench_time_func(case, cases[case])


def on_loop(measured: Callable[[int], Awaitable[object]]) -> Measure:
    """Time a coroutine function that makes a given number of calls, on a new event loop."""

    async def main(count: int) -> float:
        begin = time.perf_counter()
        await measured(count)
        return time.perf_counter() - begin

    return lambda count: asyncio.run(main(count))


def on_thread(call: Callable[[], object]) -> Measure:
    """Time calls on the current thread, one after the other."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - begin

    return run
