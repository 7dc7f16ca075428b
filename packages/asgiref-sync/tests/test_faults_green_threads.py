"""Calls finish under gevent and eventlet, whose threads are all one thread to asyncio."""

import importlib.util
import sys
import textwrap

import pytest
from programs import run_program

pytestmark = pytest.mark.timeout(40, method="thread")

PATCHES = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import warnings; warnings.simplefilter('ignore'); "
    "import eventlet; eventlet.monkey_patch()",
}
#: What a process does with the bridge before the patch.
ORDERS = {
    "patched first": "",
    "imported before the patch": "import asgiref.sync",
    "used before the patch": """
import asyncio
from asgiref.sync import *
async def use():
    await sync_to_async(id)(1)
    await sync_to_async(id, thread_sensitive=False)(1)
asyncio.run(use())
async_to_sync(use)()
""",
}
SLEEP = {"gevent": "gevent.sleep", "eventlet": "eventlet.sleep"}

#: A separate process enforces the time limit, because if one green thread hangs, all do.
PRELUDE = """
import faulthandler
faulthandler.dump_traceback_later({seconds}, exit=True)
"""

COMMON = """
import asyncio, os, sys, threading
from asgiref.sync import *

async def send(n):
    await asyncio.sleep(0)
    return n

async def back(n):
    return await sync_to_async(lambda: n)()

async def parallel(n):
    return await sync_to_async(lambda: n, thread_sensitive=False)()

async def nested(n):
    return await sync_to_async(lambda: async_to_sync(send)(n))()

async def in_context(n):
    async with ThreadSensitiveContext():
        return await sync_to_async(lambda: n)()

async def slow(n):
    await asyncio.sleep(0.01)
    return n

KINDS = [send, back, parallel, in_context, slow]

def check_no_loop():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise AssertionError("synchronous code sees a running loop")

def in_threads(functions):
    results = []
    def run(function):
        try: results.append(function())
        except Exception as error: results.append(error)
    threads = [threading.Thread(target=run, args=(one,)) for one in functions]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return results
"""

#: Programs, each with its expected output.
PROGRAMS = {
    "one after the other": """
        for n in range(3):
            for kind in KINDS:
                assert async_to_sync(kind)(n) == n, kind
                check_no_loop()
                sleep(0)
                check_no_loop()
    """,
    "a new loop for each": """
        for n in range(3):
            for kind in KINDS:
                assert async_to_sync(kind, force_new_loop=True)(n) == n, kind
                check_no_loop()
                sleep(0.001)
                check_no_loop()
    """,
    "ten at once": """
        for kind in KINDS:
            calls = [lambda n=n: async_to_sync(kind)(n) for n in range(10)]
            results = in_threads(calls)
            check_no_loop()
            # asyncio itself refuses loops that overlap in one operating system thread. A call may
            # fail with that error, but it must not hang or leave anything behind.
            for result in results:
                assert result in range(10) or isinstance(result, RuntimeError), (kind, result)
            assert async_to_sync(kind)(11) == 11, kind
            check_no_loop()
    """,
    "single thread context": """
        for kind in KINDS:
            with AsyncSingleThreadContext():
                assert async_to_sync(kind)(1) == 1, kind
                check_no_loop()
                sleep(0.001)
                check_no_loop()
                assert async_to_sync(kind)(2) == 2, kind
            check_no_loop()
    """,
    "asyncio.run": """
        for n in range(3):
            for kind in KINDS:
                assert asyncio.run(kind(n)) == n, kind
                check_no_loop()
    """,
    "asynchronous generators": """
        first_runs, second_runs, has_item, second_ended = (threading.Event() for _ in range(4))
        async def items():
            for item in range(3):
                yield item
        async def first():
            first_runs.set()
            await sync_to_async(second_runs.wait)()
            found = []
            async for item in items():
                found.append(item)
                has_item.set()
                await sync_to_async(second_ended.wait)()
            return found
        async def second():
            second_runs.set()
            await sync_to_async(has_item.wait)()
        def call_second():
            first_runs.wait()
            async_to_sync(second)()
            second_ended.set()
        assert in_threads([async_to_sync(first), call_second]) == [None, [0, 1, 2]]
    """,
    "an asynchronous generator of asyncio's own loop": """
        threads = []
        async def items():
            try:
                for item in range(3):
                    yield item
            finally:
                threads.append(asyncio.get_running_loop())
        async def main():
            call = sync_to_async(
                lambda: async_to_sync(slow, force_new_loop=True)(1), thread_sensitive=False
            )
            other = asyncio.ensure_future(call())
            await asyncio.sleep(0.005)  # the other loop waits now
            async for item in items():
                await other
                break
            await asyncio.sleep(0.001)
            assert threads == [asyncio.get_running_loop()], threads
        asyncio.run(main())
    """,
    "loops beside asyncio's own": """
        async def main():
            call = sync_to_async(
                lambda: async_to_sync(slow, force_new_loop=True)(1), thread_sensitive=False
            )
            calls = asyncio.gather(*(call() for _ in range(5)))
            while not calls.done():
                await asyncio.sleep(0.0005)  # fails if asyncio sees no running loop
            return await calls
        for _ in range(5):
            assert asyncio.run(main()) == [1] * 5
            check_no_loop()
    """,
    "many calls on one loop": """
        async def main(kind):
            return await asyncio.gather(*(kind(n) for n in range(10)))
        for kind in KINDS:
            assert async_to_sync(main)(kind) == list(range(10)), kind
            check_no_loop()
            assert asyncio.run(main(kind)) == list(range(10)), kind
            check_no_loop()
    """,
    "coroutine in a function in a coroutine": """
        # The function runs in the thread of the loop that waits for it, so the bridge may refuse.
        for call in (
            lambda: async_to_sync(nested)(1),
            lambda: async_to_sync(nested, force_new_loop=True)(1),
            lambda: asyncio.run(nested(1)),
        ):
            try:
                assert call() == 1
            except RuntimeError as error:
                assert str(error)
            check_no_loop()
            assert async_to_sync(back)(1) == 1
            check_no_loop()
    """,
    "exceptions": """
        async def fail(n):
            await asyncio.sleep(0)
            raise ValueError(n)
        def fail_sync():
            raise ValueError(1)
        for call in (
            lambda: async_to_sync(fail)(1),
            lambda: async_to_sync(sync_to_async(fail_sync))(),
            lambda: asyncio.run(sync_to_async(fail_sync)()),
            lambda: asyncio.run(sync_to_async(fail_sync, thread_sensitive=False)()),
        ):
            try:
                call()
            except ValueError:
                check_no_loop()
            else:
                raise AssertionError("nothing was raised")
    """,
    "leftover task": """
        tasks = []
        async def main():
            tasks.append(asyncio.ensure_future(asyncio.sleep(60)))
            await asyncio.sleep(0)
        for _ in range(3):
            async_to_sync(main)()
            check_no_loop()
        assert all(task.done() for task in tasks)
    """,
    "first calls of ten threads": """
        results = in_threads([lambda n=n: async_to_sync(parallel)(n) for n in range(10)])
        for result in results:
            assert result in range(10) or isinstance(result, RuntimeError), result
        assert async_to_sync(back)(11) == 11
        check_no_loop()
    """,
    "iterators": """
        async def numbers():
            for n in range(3):
                yield n
                await asyncio.sleep(0)
        async def consume():
            return [n async for n in sync_to_async_iterator(range(3))]
        for _ in range(2):
            assert list(async_to_sync_iterator(numbers())) == [0, 1, 2]
            check_no_loop()
            assert async_to_sync(consume)() == [0, 1, 2]
            check_no_loop()
    """,
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
@pytest.mark.parametrize("library", PATCHES)
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_calls_end_and_leave_no_running_loop(library, program, order):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    script = "\n".join(
        [
            order,
            PATCHES[library],
            COMMON,
            f"sleep = {SLEEP[library]}",
            textwrap.dedent(program),
            "print('ended', flush=True)",
            "os._exit(0)",
        ]
    )
    result = run_program(script, prelude=PRELUDE, seconds=10)
    assert (result.stdout, result.returncode) == ("ended\n", 0), result.stderr


@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
@pytest.mark.parametrize("library", PATCHES)
def test_a_process_that_was_patched_ends_by_itself(library, order):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    script = "\n".join(
        [
            order,
            PATCHES[library],
            COMMON,
            "assert async_to_sync(back)(1) == 1",
            "assert async_to_sync(parallel)(1) == 1",
            "print('ended', flush=True)",
        ]
    )
    result = run_program(script, prelude=PRELUDE, seconds=10)
    assert (result.stdout, result.returncode) == ("ended\n", 0), result.stderr


@pytest.mark.parametrize("library", PATCHES)
def test_a_fork_ends_idle_greenlets_and_waits_for_no_system_thread(library):
    """The clock counts its readings: a wait that polls would read it a hundred times."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    script = "\n".join(
        [
            PATCHES[library],
            COMMON,
            "import time, warnings",
            "warnings.filterwarnings('ignore', 'This process', DeprecationWarning)",
            textwrap.dedent(
                """
                async def meet():
                    call = sync_to_async(threading.Barrier(5).wait, thread_sensitive=False)
                    await asyncio.gather(*(call() for _ in range(5)))
                asyncio.run(meet())
                readings, clock = [], time.monotonic
                def slow_clock():
                    readings.append(1)
                    return clock() + len(readings) / 1000
                time.monotonic = slow_clock
                if os.fork() == 0:
                    os._exit(0)
                print(len(readings) < 50, flush=True)
                os._exit(0)
                """
            ),
        ]
    )
    result = run_program(script, prelude=PRELUDE, seconds=10)
    assert (result.stdout, result.returncode) == ("True\n", 0), result.stderr


#: Programs with a thread from gevent's own pool, which is a system thread with a hub of its own.
POOL_PROGRAMS = {
    "does not see the loop of the main thread": """
        def in_system_thread():
            assert async_to_sync(slow)(1) == 1
            check_no_loop()
            return asyncio.run(slow(2))
        async def main():
            await parallel(1)
            loop, finished = asyncio.get_running_loop(), asyncio.Event()
            result = gevent.get_hub().threadpool.spawn(in_system_thread)
            result.rawlink(lambda _: loop.call_soon_threadsafe(finished.set))
            await finished.wait()
            assert asyncio.get_running_loop() is loop
            return result.get()
        assert asyncio.run(main()) == 2
    """,
    "leaves no worker that a later call waits for": """
        for kind in [back, parallel, in_context, slow]:
            in_system_thread = lambda: async_to_sync(kind)(1)
            assert gevent.get_hub().threadpool.spawn(in_system_thread).get() == 1
            assert async_to_sync(kind)(2) == 2
            assert asyncio.run(kind(3)) == 3
    """,
}


@pytest.mark.parametrize("program", POOL_PROGRAMS.values(), ids=list(POOL_PROGRAMS))
def test_calls_work_with_a_thread_from_gevents_own_pool(program):
    pytest.importorskip("gevent")
    script = "\n".join(
        [
            PATCHES["gevent"],
            COMMON,
            "import gevent",
            textwrap.dedent(program),
            "print('ended', flush=True)",
            "os._exit(0)",
        ]
    )
    result = run_program(script, prelude=PRELUDE, seconds=10)
    assert (result.stdout, result.returncode) == ("ended\n", 0), result.stderr


def test_at_least_the_supported_library_is_tested_on_released_pythons():
    """Without it, all tests here could be skipped unnoticed. The extra `tests` installs gevent."""
    if sys.version_info >= (3, 14):
        pytest.skip("wheels may be missing there")
    assert importlib.util.find_spec("gevent") is not None
