"""Count the leftovers of 100,000 calls: threads, loops, tasks, descriptors, contexts, RSS.

Run ``python bridge_memory.py [--calls N] [--json FILE]`` in an environment with the components of
this repository. The first tenth of the calls is not counted, because it fills pools and allocators.
Prints a table; exits with 1 if any count grew, or RSS grew by 1 MB or more. Linux only.
"""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from options import add_json, make_plain_parser
from progress import Progress
from record import Kind, Measured, Record, Table
from tables import tables_of

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async

LIMIT_KB = 1024
#: The number of RSS measurements during the calls, which show whether RSS grows steadily.
PARTS = 10


def returns(argument: object) -> None:
    pass


def fails(argument: object) -> None:
    raise ValueError("failed")


async def returns_async(argument: object) -> None:
    await sync_to_async(returns)(argument)


async def fails_async(argument: object) -> None:
    raise ValueError("failed")


def from_async(function: Callable[[object], None], sensitive: bool, context: bool) -> None:
    call = sync_to_async(function, thread_sensitive=sensitive)

    async def one() -> None:
        with contextlib.suppress(ValueError):
            await call(object())

    async def main() -> None:
        for _ in range(1000):
            if context:
                async with ThreadSensitiveContext():
                    await one()
            else:
                await one()

    asyncio.run(main())


def from_sync() -> None:
    call, failing = async_to_sync(returns_async), async_to_sync(fails_async)
    for _ in range(500):
        call(object())
        with contextlib.suppress(ValueError):
            failing(object())


KINDS: dict[str, Callable[[], None]] = {
    "sensitive": lambda: from_async(returns, True, False),
    "sensitive, raising": lambda: from_async(fails, True, False),
    "parallel": lambda: from_async(returns, False, False),
    "a context each": lambda: from_async(returns, True, True),
    "top level, half of them raising": from_sync,
    "below async code": lambda: asyncio.run(sync_to_async(from_sync)()),
}


def rss_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def parallel() -> None:
    await sync_to_async(int, thread_sensitive=False)()


def left_behind() -> Counter[str]:
    # Worker threads may still be returning to their pool after their last results.
    SyncToAsync.single_thread_executor.submit(int).result()
    async_to_sync(parallel)()
    gc.collect()
    counted = Counter({"threads": threading.active_count()})
    counted["descriptors"] = len(os.listdir("/proc/self/fd"))
    for thing in gc.get_objects():
        if isinstance(thing, asyncio.AbstractEventLoop):
            counted["loops"] += 1
        elif isinstance(thing, asyncio.Task):
            counted["tasks"] += 1
        elif isinstance(thing, contextvars.Context):
            counted["contexts"] += 1
    return counted


def measure(name: str, calls: Callable[[], None], blocks: int, progress: Progress) -> Measured:
    """Make the calls in blocks of 1000, and compare the counts before and after."""
    for _ in range(max(1, blocks // 10)):
        calls()
    before, rss = left_behind(), [rss_kb()]
    for number in range(blocks):
        progress.detail(f"{name}, {number * 1000:,} calls")
        calls()
        if (number + 1) % max(1, blocks // PARTS) == 0:
            rss.append(rss_kb())
    more = left_behind() - before
    growth = rss_kb() - rss[0]
    note = ", ".join(f"{count} {what}" for what, count in more.items()) or "nothing"
    met = growth < LIMIT_KB and not more
    parts = [float(after - before) for before, after in itertools.pairwise(rss)]
    return Measured(name, growth, None, parts, LIMIT_KB, met, note=note)


def main() -> int:
    parser = make_plain_parser("what calls of the bridge leave behind")
    parser.add_argument(
        "--calls",
        type=int,
        default=100_000,
        metavar="CALLS",
        help="how many calls of each kind, in thousands that are full (default: %(default)s)",
    )
    add_json(parser)
    arguments = parser.parse_args()
    blocks = max(1, arguments.calls // 1000)
    load = os.getloadavg()[0]
    cases = []
    with Progress("bridge_memory", len(KINDS)) as progress:
        for name, calls in KINDS.items():
            progress.step()
            cases.append(measure(name, calls, blocks, progress))
    table = Table(f"{blocks * 1000:,} calls", Kind.GROWTH, "kB", cases)
    subject = "What calls of the bridge leave behind"
    record = Record("bridge_memory", subject, [table], 1, "otherwise idle", load)
    print(f"{record.machine}\n\n{tables_of(record)}", flush=True)
    if arguments.json is not None:
        record.write(arguments.json)
    return 0 if record.met else 1


if __name__ == "__main__":
    sys.exit(main())
