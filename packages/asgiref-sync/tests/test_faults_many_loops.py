"""Many threads that each start, run and end their own loops."""

import asyncio
import collections
import faulthandler
import sys
import threading
import time

import pytest
from probes import SOON, Resources, assert_all_works, assert_no_more_than, double

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

pytestmark = pytest.mark.timeout(50, method="thread")

SECONDS = 1.5


# Each waiting thread wakes up once per switch interval. With 128 threads and a short interval, a
# busy machine does nothing else, and the threads never finish: use many threads or many switches.
@pytest.fixture(params=[(128, 5e-3), (16, 1e-5)], ids=["many threads", "many switches"])
def number_of_threads(request):
    number, interval = request.param
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    faulthandler.dump_traceback_later(50, exit=True, file=sys.__stderr__)  # works without the GIL
    yield number
    faulthandler.cancel_dump_traceback_later()
    sys.setswitchinterval(before)


async def parallel():
    return await sync_to_async(len, thread_sensitive=False)("abc")


async def several():
    call = sync_to_async(len, thread_sensitive=False)
    return (await asyncio.gather(call("abc"), call("abc"), call("abc")))[2]


async def sensitive():
    return await sync_to_async(len)("abc")


async def in_context():
    async with ThreadSensitiveContext():
        return await sync_to_async(len)("abc")


async def bridged_back():
    async def length():
        await asyncio.sleep(0)
        return 3

    return await sync_to_async(async_to_sync(length), thread_sensitive=False)()


async def abandoned():
    task = asyncio.ensure_future(sync_to_async(time.sleep, thread_sensitive=False)(0.0001))
    await asyncio.sleep(0)
    task.cancel()
    return 3


def top_level(coroutine_function):
    return async_to_sync(coroutine_function)()


def own_loop(coroutine_function):
    return asyncio.run(coroutine_function())


def run_everywhere(works, number_of_threads):
    """Run each function in its share of the threads for some seconds; return the errors."""
    errors, calls = collections.Counter(), collections.Counter()
    deadline = time.monotonic() + SECONDS
    start = threading.Barrier(number_of_threads)

    def loop_over(work):
        start.wait(SOON)
        while True:
            try:
                result = work()
            except BaseException as error:
                errors[f"{type(error).__name__}: {error}"[:100]] += 1
            else:
                calls[result] += 1
            if time.monotonic() > deadline:
                return

    threads = [
        threading.Thread(target=loop_over, args=(works[number % len(works)],), daemon=True)
        for number in range(number_of_threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "hangs"
    assert set(calls) == {3}
    return dict(errors)


KINDS = [parallel, several, sensitive, in_context, bridged_back, abandoned]


@pytest.mark.parametrize("run", [own_loop, top_level], ids=lambda one: one.__name__)
def test_calls_on_loops_of_many_threads_do_not_disturb_each_other(run, number_of_threads):
    for _ in range(2):
        assert_all_works()
    works = [lambda kind=kind: run(kind) for kind in KINDS]
    assert run_everywhere(works, number_of_threads) == {}
    assert_all_works()


def test_threads_loops_and_descriptors_are_released_after_a_burst_of_calls():
    for _ in range(2):
        assert_all_works()

    def crowd():
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(asyncio.run(in_context())))
            for _ in range(40)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert results == [3] * 40

    crowd()
    before = Resources.now()
    for _ in range(4):
        crowd()
    assert_no_more_than(before, spare=3)
    assert async_to_sync(double)(1) == 2
