"""Checks of the process from outside: threads, loops, descriptors, and whether calls work."""

import asyncio
import gc
import os
import threading
import time
from dataclasses import dataclass

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

#: The default limit of concurrent functions is that of `concurrent.futures.ThreadPoolExecutor`.
DEFAULT_LIMIT = min(32, (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 4)

#: The time limit, on a busy machine, for an event that should be immediate.
SOON = 10


def eventually(condition, seconds=SOON):
    """Poll until `condition` is true, for changes without an event. Return False on timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


@dataclass(frozen=True)
class Resources:
    """The resources that a process holds."""

    threads: int
    loops: int
    descriptors: int

    @classmethod
    def now(cls):
        gc.collect()
        loops = [
            one for one in gc.get_objects() if issubclass(type(one), asyncio.AbstractEventLoop)
        ]
        open_loops = sum(not loop.is_closed() for loop in loops)
        del loops
        folder = "/proc/self/fd"
        held = len(os.listdir(folder)) if os.path.isdir(folder) else 0
        return cls(threading.active_count(), open_loops, held)

    def within(self, other, spare=0):
        """Whether this is at most `other`, plus `spare` idle threads and loops.

        A loop uses four descriptors. An idle thread keeps a loop, which counts as closed; an open
        loop, which an interrupted block can leave behind, has its own descriptors.
        """
        open_loops = max(0, self.loops - other.loops)
        return (
            self.threads <= other.threads + spare
            and open_loops <= spare
            and self.descriptors <= other.descriptors + 4 * (spare + open_loops)
        )


def assert_no_more_than(before, spare=0):
    """Assert that the process returns to its former resources, except for some idle threads."""
    if not eventually(lambda: Resources.now().within(before, spare), seconds=5):
        names = sorted(thread.name for thread in threading.enumerate())
        raise AssertionError(f"{Resources.now()} instead of {before}, with {names}")


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def _work_in_all_ways():
    assert await sync_to_async(int)("1") == 1
    assert await sync_to_async(int, thread_sensitive=False)("2") == 2
    async with ThreadSensitiveContext():
        assert await sync_to_async(int)("3") == 3
    assert await sync_to_async(async_to_sync(double))(2) == 4
    await use_every_token()


async def use_every_token():
    """Run as many functions at once as the limit allows; each waits for all the others."""
    barrier = threading.Barrier(DEFAULT_LIMIT)
    meet = sync_to_async(barrier.wait, thread_sensitive=False)
    met = await asyncio.gather(*(meet(SOON) for _ in range(DEFAULT_LIMIT)))
    assert sorted(met) == list(range(DEFAULT_LIMIT))


def assert_all_works():
    """Assert that each kind of call works, and that the limiter has all its tokens."""
    asyncio.run(asyncio.wait_for(_work_in_all_ways(), SOON))
    assert async_to_sync(double)(1) == 2


async def _outcome_of(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return error


async def outcome_of(awaitable):
    """Return the result of `awaitable`, or the exception that it raised, of any class.

    It runs in a separate task, because asyncio throws the exception of a future into the waiting
    task, and throwing a GeneratorExit closes every coroutine but the outermost.
    """
    return await asyncio.create_task(_outcome_of(awaitable))


def outcome(function, *args):
    """Return the result of the call, or the exception that it raised, of any class."""
    try:
        return function(*args)
    except BaseException as error:
        return error
