"""If a thread, loop, descriptor or memory is unavailable, one caller gets one exception."""

import asyncio
import errno
import os
import threading

import pytest
from probes import SOON, Resources, assert_all_works, assert_no_more_than, double, outcome
from programs import check_program

from asgiref.sync import (
    AsyncSingleThreadContext,
    LimitedExecutor,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(30, method="thread")


class Failing:
    """A function that works except for its n-th call."""

    def __init__(self, function, number, error):
        self.function = function
        self.number = number
        self.error = error
        self.failed = False

    def __call__(self, *args, **kwargs):
        self.number -= 1
        if self.number == 0:
            self.failed = True
            raise self.error
        return self.function(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return self if instance is None else lambda *args, **kw: self(instance, *args, **kw)


#: For each resource: the object and attributes that provide it, and the error if it is missing.
RESOURCES = {
    "thread": (threading.Thread, ["start"], RuntimeError("can't start new thread")),
    "thread of the system": (
        threading,
        ["_start_joinable_thread", "_start_new_thread"],
        RuntimeError("can't start new thread"),
    ),
    "memory for a thread": (threading.Thread, ["start"], MemoryError()),
    "eventfd": (os, ["eventfd"], OSError(errno.EMFILE, "Too many open files")),
    "loop": (asyncio, ["new_event_loop"], OSError(errno.EMFILE, "Too many open files")),
    "reader": (
        asyncio.SelectorEventLoop,
        ["add_reader", "_add_reader"],
        OSError(errno.ENOSPC, "No space left on device"),
    ),
    "memory for a lock": (threading, ["Lock"], MemoryError()),
    "memory for a task": (asyncio.BaseEventLoop, ["create_task"], MemoryError()),
}


def fresh_thread(function):
    """Run `function` in a new thread, which has never used the bridge, and return its outcome."""
    results = []
    thread = threading.Thread(target=lambda: results.append(outcome(function)), daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive(), "hangs"
    return results[0]


def at_top_level():
    assert async_to_sync(double)(2) == 4


def leave_something():
    async def main():
        asyncio.ensure_future(asyncio.sleep(100))  # noqa: RUF006
        await asyncio.sleep(0)
        return 1

    assert async_to_sync(main)() == 1


def single_thread():
    with AsyncSingleThreadContext():
        assert async_to_sync(double)(2) == 4


def there_and_back():
    async def main():
        assert await sync_to_async(int)("1") == 1
        call = sync_to_async(int, thread_sensitive=False)
        assert await asyncio.gather(call("1"), call("2"), call("3")) == [1, 2, 3]

    async_to_sync(main)()


async def _sensitive():
    assert await sync_to_async(int)("1") == 1


async def _parallel():
    call = sync_to_async(threading.Barrier(3).wait, thread_sensitive=False)
    calls = (asyncio.create_task(call(1)) for _ in range(3))
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        # The functions whose threads started wait for the one whose thread did not.
        if isinstance(result, BaseException) and not isinstance(
            result, threading.BrokenBarrierError
        ):
            raise result


async def _context():
    async with ThreadSensitiveContext():
        assert await sync_to_async(int)("1") == 1


async def _below():
    assert await sync_to_async(async_to_sync(double))(2) == 4


#: Calls, and whether they run on the application's loop, on which no failure may occur.
WAYS = {
    "top level": (at_top_level, None),
    "leftovers": (leave_something, None),
    "single thread": (single_thread, None),
    "there and back": (there_and_back, None),
    "sensitive": (None, _sensitive),
    "parallel": (None, _parallel),
    "context": (None, _context),
    "below": (None, _below),
}


def run_on_own_loop(main, start_failing):
    """Run `main` on a loop that exists before the failures start."""

    async def run():
        start_failing()
        return await main()

    return asyncio.run(asyncio.wait_for(run(), SOON))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("resource", RESOURCES)
def test_the_caller_gets_the_error_and_everything_works_afterwards(resource, way, monkeypatch):
    owner, names, error = RESOURCES[resource]
    names = [name for name in names if hasattr(owner, name)]
    if not names:
        pytest.skip("no such thing on this platform")
    function, main = WAYS[way]
    for _ in range(2):
        assert_all_works()
    before = Resources.now()

    def attempt(number):
        failing = [Failing(getattr(owner, name), number, error) for name in names]
        with monkeypatch.context() as patch:

            def start():
                for name, replacement in zip(names, failing, strict=True):
                    patch.setattr(owner, name, replacement)

            if main is None:
                start()
                result = outcome(function)
            else:
                result = outcome(run_on_own_loop, main, start)
        return result, any(one.failed for one in failing)

    failed, number = True, 0
    while failed and number < 60:
        number += 1
        result, failed = attempt(number)
        # A fallback may have worked; any other error would be a consequence, not the cause.
        assert result is None or is_caused_by(result, error), repr(result)
    assert_all_works()
    assert_no_more_than(before, spare=3)


def is_caused_by(result, error):
    seen = set()
    while isinstance(result, BaseException) and id(result) not in seen:
        seen.add(id(result))
        if type(result) is type(error):
            return True
        result = result.__cause__ or result.__context__
    return False


NO_SECOND_THREAD = [
    RuntimeError("can't start new thread"),
    MemoryError(),
    OSError(errno.EAGAIN, "Resource temporarily unavailable"),
]


@pytest.mark.parametrize("error", NO_SECOND_THREAD, ids=lambda error: type(error).__name__)
def test_a_limited_executors_calls_run_on_the_thread_that_could_be_started(error, monkeypatch):
    executor = LimitedExecutor(2, name="scarce")
    futures, started, start = [], [], threading.Thread.start

    def start_the_first(thread):
        if thread.name.startswith("scarce"):
            started.append(thread)
            if len(started) > 1:
                raise error
            # They are queued before the thread takes its first call and requests another thread.
            futures.extend(executor.submit(threading.current_thread) for _ in range(3))
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_the_first)
        futures.append(executor.submit(threading.current_thread))
        threads = {future.result(SOON) for future in futures}
    assert len(started) > 1
    assert threads == {started[0]}
    # Both tokens are available again.
    meet = threading.Barrier(2)
    places = [executor.submit(meet.wait, SOON) for _ in range(2)]
    assert sorted(place.result(SOON) for place in places) == [0, 1]
    executor.shutdown()


LIMITED = """
import resource, errno
held = []

def exhaust(spare):
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
    for _ in range(spare):
        os.close(held.pop())

def recover():
    while held:
        os.close(held.pop())

async def turn():
    await asyncio.sleep(0)
    return 1

async def both_ways():
    assert await sync_to_async(int)("1") == 1
    assert await sync_to_async(int, thread_sensitive=False)("1") == 1
    async with ThreadSensitiveContext():
        assert await sync_to_async(int)("1") == 1
    return 1

def attempt(function, *args):
    try:
        return function(*args) == 1
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="limits descriptors as Linux does")
@pytest.mark.parametrize("warm", [False, True])
def test_without_descriptors_a_call_works_or_reports_the_shortage(warm):
    check_program(
        f"""{LIMITED}
if {warm}:
    async_to_sync(both_ways)()
for spare in range(8):
    for coroutine in (turn, both_ways):
        exhaust(spare)
        assert attempt(async_to_sync(coroutine)), (spare, coroutine)
        recover()
        assert async_to_sync(coroutine)() == 1
print("worked")
""",
        output="worked",
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="limits descriptors as Linux does")
def test_calls_on_a_running_loop_need_no_descriptor():
    check_program(
        f"""{LIMITED}
async def main():
    for spare in range(4):
        exhaust(spare)
        assert await both_ways() == 1
        assert await sync_to_async(async_to_sync(turn))() == 1
        recover()
asyncio.run(main())
print("worked")
""",
        output="worked",
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="limits descriptors as Linux does")
@pytest.mark.parametrize("leave", ["task", "executor", "nothing"])
def test_a_coroutine_that_ends_while_no_descriptor_is_left_returns(leave):
    check_program(
        f"""{LIMITED}
async def main():
    if {leave!r} == "executor":
        await asyncio.to_thread(int)
    exhaust(0)
    if {leave!r} == "task":
        asyncio.ensure_future(asyncio.sleep(100))
        await asyncio.sleep(0)
    return 1
for _ in range(3):
    assert async_to_sync(main)() == 1
    assert attempt(async_to_sync(turn))
    recover()
    assert async_to_sync(both_ways)() == 1
print("worked")
""",
        output="worked",
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="limits threads as Linux does")
def test_other_calls_continue_when_no_thread_can_be_started():
    check_program(
        """
        start = threading.Thread.start
        busy, release = threading.Semaphore(0), threading.Event()

        def refuse(self):
            raise RuntimeError("can't start new thread")

        def occupy():
            busy.release()
            release.wait(10)
            return 1

        async def main():
            call = sync_to_async(occupy, thread_sensitive=False)
            running = [asyncio.create_task(call()) for _ in range(2)]
            for _ in running:
                await asyncio.to_thread(busy.acquire)
            threading.Thread.start = refuse
            more = [asyncio.create_task(call()) for _ in range(5)]
            await asyncio.sleep(0.01)
            release.set()
            results = await asyncio.gather(*running, *more, return_exceptions=True)
            # The running calls finish; the others ran on the same threads, or got the error.
            assert results[:2] == [1, 1]
            assert all(one == 1 or isinstance(one, RuntimeError) for one in results[2:])
            threading.Thread.start = start
            assert await asyncio.gather(*(call() for _ in range(40))) == [1] * 40

        asyncio.run(main())
        print("worked")
        """,
        output="worked",
    )
