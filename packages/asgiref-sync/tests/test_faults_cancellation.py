"""As with any other `await`, a cancellation is neither lost nor delivered to another call.

Each program runs twice: with plain `await`s and with calls through the bridge. It must see the same
events both times.
"""

import asyncio
import contextlib
import random
import threading

import pytest
from probes import DEFAULT_LIMIT, SOON, assert_all_works

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

pytestmark = pytest.mark.timeout(20, method="thread")


async def plain(coroutine_function, *args):
    return await coroutine_function(*args)


async def sensitive(coroutine_function, *args):
    return await sync_to_async(async_to_sync(coroutine_function))(*args)


async def parallel(coroutine_function, *args):
    return await sync_to_async(async_to_sync(coroutine_function), thread_sensitive=False)(*args)


async def in_context(coroutine_function, *args):
    async with ThreadSensitiveContext():
        return await sync_to_async(async_to_sync(coroutine_function))(*args)


async def twice(coroutine_function, *args):
    return await sensitive(parallel, coroutine_function, *args)


async def forced(coroutine_function, *args):
    call = async_to_sync(coroutine_function, force_new_loop=True)
    return await sync_to_async(call)(*args)


WAYS = [sensitive, parallel, in_context, twice, forced]


async def for_ever(log, started):
    started.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log("inner cancelled")
        raise
    finally:
        log("inner ends")


async def slow_to_end(log, started):
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(5):
            await asyncio.sleep(0)
        log("inner ends late")


async def completes_in_spite(log, started):
    started.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    log("inner goes on")
    return "completed"


async def fails_instead(log, started):
    started.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("instead") from None


INNER = [for_ever, slow_to_end, completes_in_spite, fails_instead]


class Started:
    """Tells the outer loop, from any loop, that the inner coroutine is running."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def set(self):
        self.loop.call_soon_threadsafe(self.event.set)


async def cancel(wait, log, started):
    task = asyncio.create_task(wait())
    await started.event.wait()
    log(task.cancel())
    await asyncio.wait([task])
    log(f"cancelled {task.cancelled()} {task.cancelling()}")
    return await task


async def cancel_and_uncancel(wait, log, started):
    async def work():
        try:
            return await wait()
        except asyncio.CancelledError:
            log(f"left {asyncio.current_task().uncancel()}")
        await asyncio.sleep(0)
        log("goes on")

    task = asyncio.create_task(work())
    await started.event.wait()
    task.cancel()
    return await task


async def timeout(wait, log, started):
    async with asyncio.timeout(None) as scope:
        task = asyncio.create_task(started.event.wait())
        task.add_done_callback(lambda _: scope.reschedule(0))
        try:
            return await wait()
        finally:
            log(f"expired {scope.expired()}, cancelling {asyncio.current_task().cancelling()}")


async def nested_timeouts(wait, log, started):
    try:
        async with asyncio.timeout(None) as outer:
            task = asyncio.create_task(started.event.wait())
            task.add_done_callback(lambda _: outer.reschedule(0))
            async with asyncio.timeout(60):
                return await wait()
    finally:
        log(f"cancelling {asyncio.current_task().cancelling()}")


async def wait_for(wait, log, started):
    waiting = asyncio.ensure_future(asyncio.wait_for(wait(), 0.1))
    await started.event.wait()
    return await waiting


async def task_group(wait, log, started):
    async def fail():
        await started.event.wait()
        raise KeyError("sibling")

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait()), group.create_task(fail())]
    except BaseExceptionGroup as error:
        log(sorted(type(one).__name__ for one in error.exceptions))
    log(f"cancelled {[task.cancelled() for task in tasks]}")
    log(f"cancelling {asyncio.current_task().cancelling()}")


async def shield(wait, log, started):
    inner = asyncio.ensure_future(wait())
    outer = asyncio.ensure_future(_await(asyncio.shield(inner)))
    await started.event.wait()
    outer.cancel()
    await asyncio.wait([outer])
    log(f"outer {outer.cancelled()} inner done {inner.done()}")
    inner.cancel()
    return await inner


async def _await(awaitable):
    return await awaitable


async def gather(wait, log, started):
    both = asyncio.gather(wait())
    await started.event.wait()
    both.cancel()
    return await both


async def cancel_at_the_end_of_the_loop(wait, log, started):
    async def main():
        started.loop = asyncio.get_running_loop()
        started.event = asyncio.Event()
        task = asyncio.create_task(wait())
        await started.event.wait()
        return task

    def run():
        task = asyncio.run(main())
        log(f"done {task.done()} cancelled {task.cancelled()}")

    await asyncio.to_thread(run)


PROGRAMS = [
    cancel,
    cancel_and_uncancel,
    timeout,
    nested_timeouts,
    wait_for,
    task_group,
    shield,
    gather,
    cancel_at_the_end_of_the_loop,
]


def seen(program, way, inner):
    """Return the program's log and its result."""
    events = []

    async def main():
        started = Started()

        async def wait():
            return await way(inner, events.append, started)

        result = await asyncio.wait_for(program(wait, events.append, started), SOON)
        return result

    try:
        events.append(f"returned {asyncio.run(main())!r}")
    except BaseException as error:
        events.append(f"raised {type(error).__name__}")
    return events


#: When a loop ends, it cancels inner tasks as well as the outer one, so more than once.
PAIRS = [
    (program, inner)
    for program in PROGRAMS
    for inner in INNER
    if program is not cancel_at_the_end_of_the_loop or inner is for_ever
]


@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
@pytest.mark.parametrize(("program", "inner"), PAIRS, ids=lambda one: one.__name__)
def test_cancellation_looks_the_same_as_with_a_plain_await(program, way, inner):
    assert seen(program, way, inner) == seen(program, plain, inner)


@pytest.mark.parametrize("kind", [True, False, "context"])
def test_a_cancelled_caller_does_not_wait_for_a_running_function(kind):
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait(SOON)
        ended.set()

    async def call():
        await sync_to_async(work, thread_sensitive=bool(kind))()

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            if kind == "context":
                await stack.enter_async_context(ThreadSensitiveContext())
            task = asyncio.create_task(call())
            await asyncio.to_thread(started.wait, SOON)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert not ended.is_set()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await call()
            assert asyncio.current_task().cancelling() == 0
            release.set()
        assert await asyncio.to_thread(ended.wait, SOON)

    asyncio.run(main())
    assert_all_works()


@pytest.mark.parametrize("sensitive", [True, False])
def test_a_call_cancelled_in_the_queue_never_runs_and_costs_no_token(sensitive):
    ran = []

    async def main():
        running = 1 if sensitive else DEFAULT_LIMIT
        release, busy = threading.Event(), threading.Barrier(running + 1)

        def occupy():
            busy.wait(SOON)
            release.wait(SOON)

        occupying = [
            asyncio.create_task(sync_to_async(occupy, thread_sensitive=sensitive)())
            for _ in range(running)
        ]
        await asyncio.to_thread(busy.wait, SOON)
        call = sync_to_async(ran.append, thread_sensitive=sensitive)
        queued = [asyncio.create_task(call(number)) for number in range(50)]
        await asyncio.sleep(0)
        for task in queued:
            task.cancel()
        await asyncio.wait(queued)
        assert all(task.cancelled() for task in queued)
        release.set()
        await asyncio.wait(occupying)

    asyncio.run(main())
    assert ran == []
    assert_all_works()


@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_in_the_coroutines_last_step_is_not_lost(way, turns):
    """The cancellation arrives after the coroutine has ended and before its thread resumes."""

    def cancel_later(task, left):
        loop = task.get_loop()
        if left:
            loop.call_soon(cancel_later, task, left - 1)
        else:
            task.cancel()

    async def inner(task):
        await asyncio.sleep(0)
        task.get_loop().call_soon_threadsafe(cancel_later, task, turns)

    async def consumer():
        while True:
            await way(inner, asyncio.current_task())

    async def main():
        for _ in range(10):
            task = asyncio.create_task(consumer())
            done, _ = await asyncio.wait([task], timeout=SOON)
            assert done
            assert task.cancelled()

    # Each turn of the consumer requests a cancellation; count only the first.
    async def consume_once():
        async def once():
            await way(inner, asyncio.current_task())
            await asyncio.Event().wait()

        for _ in range(20):
            task = asyncio.create_task(once())
            done, _ = await asyncio.wait([task], timeout=SOON)
            assert done
            assert task.cancelled()

    asyncio.run(main())
    asyncio.run(consume_once())


@pytest.mark.parametrize("way", [sensitive, parallel], ids=lambda one: one.__name__)
def test_one_cancellation_at_a_random_moment_ends_a_loop_of_short_calls(way):
    random.seed(1)

    async def turn():
        await asyncio.sleep(0)

    async def consumer():
        while True:
            await way(turn)

    async def main():
        for _ in range(60):
            task = asyncio.create_task(consumer())
            await asyncio.sleep(random.random() * 0.005)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=SOON)
            assert done

    asyncio.run(main())


def test_a_cancellation_reaches_only_the_running_coroutine():
    events = []

    async def first():
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    async def second(loop, outer):
        loop.call_soon(outer.cancel)
        try:
            await asyncio.Event().wait()
        finally:
            events.append("second ends")

    async def third():
        await asyncio.sleep(0)
        events.append("third is whole")

    def work(loop, outer):
        async_to_sync(first)()
        try:
            async_to_sync(second)(loop, outer)
        finally:
            async_to_sync(third)()

    async def main():
        outer = asyncio.current_task()
        await sync_to_async(work)(asyncio.get_running_loop(), outer)

    tasks = []

    async def run():
        task = asyncio.create_task(main())
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(run())
    assert events == ["second ends", "third is whole"]
    assert not tasks[0].cancelled()


def test_cancelling_twice_ends_a_coroutine_that_ignores_the_first():
    async def stubborn(started):
        started.set()
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            attempts.set()
            if ended:
                raise ValueError("at last")
            ended.append(1)

    ended = []

    async def main():
        nonlocal attempts
        attempts = asyncio.Event()
        started = Started()
        task = asyncio.create_task(sensitive(stubborn, started))
        await started.event.wait()
        task.cancel()
        await attempts.wait()
        task.cancel()
        with pytest.raises(ValueError, match="at last"):
            await task

    attempts = None
    asyncio.run(main())
