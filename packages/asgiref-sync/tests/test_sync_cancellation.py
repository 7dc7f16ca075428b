"""Cancelling calls across the bridge."""

import asyncio
import threading

import pytest
from probes import SOON

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return True


def test_a_queued_call_that_is_cancelled_never_starts():
    blocked, release = threading.Event(), threading.Event()
    ran = []

    def block():
        blocked.set()
        release.wait(30)

    async def main():
        async with ThreadSensitiveContext():
            first = asyncio.create_task(sync_to_async(block)())
            await asyncio.to_thread(blocked.wait, 30)
            second = asyncio.create_task(sync_to_async(ran.append)("second"))
            await asyncio.sleep(0)
            await cancelled(second)
            release.set()
            await first
            await sync_to_async(ran.append)("third")

    asyncio.run(main())
    assert ran == ["third"]


def test_a_running_function_is_not_waited_for():
    started, release = threading.Event(), threading.Event()
    ended = threading.Event()

    def work():
        started.set()
        release.wait(30)
        ended.set()

    async def main():
        task = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
        await asyncio.to_thread(started.wait, 30)
        await cancelled(task)
        assert not ended.is_set()
        release.set()

    asyncio.run(main())
    assert ended.wait(30)


def test_cancelling_cancels_the_inner_coroutine_and_waits_for_the_function():
    events = []

    async def main():
        waiting = asyncio.Event()

        async def below():
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                events.append("coroutine cancelled")

        def work():
            try:
                async_to_sync(below)()
            finally:
                events.append("function ended")

        task = asyncio.create_task(sync_to_async(work)())
        await waiting.wait()
        await cancelled(task)
        return list(events)

    assert asyncio.run(main()) == ["coroutine cancelled", "function ended"]


def test_the_second_inner_coroutine_is_cancelled_too():
    async def main():
        waiting = asyncio.Event()

        async def first():
            await sync_to_async(int)()

        async def second():
            waiting.set()
            await asyncio.Event().wait()

        def work():
            async_to_sync(first)()
            async_to_sync(second)()

        task = asyncio.create_task(sync_to_async(work)())
        await waiting.wait()
        return await cancelled(task)

    assert asyncio.run(main())


def test_an_inner_coroutine_that_completes_anyway_gives_the_result():
    async def main():
        waiting = asyncio.Event()

        async def below():
            waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "completed"

        task = asyncio.create_task(sync_to_async(async_to_sync(below))())
        await waiting.wait()
        task.cancel()
        return await task

    assert asyncio.run(main()) == "completed"


def test_cancelling_again_reaches_the_next_inner_coroutine():
    async def main():
        waiting = asyncio.Queue()

        async def below(name):
            waiting.put_nowait(name)
            await asyncio.Event().wait()

        def work():
            try:
                async_to_sync(below)("first")
            except asyncio.CancelledError:
                async_to_sync(below)("second")

        task = asyncio.create_task(sync_to_async(work)())
        assert await waiting.get() == "first"
        task.cancel()
        assert await waiting.get() == "second"
        return await cancelled(task)

    assert asyncio.run(main())


def test_cancelling_reaches_a_coroutine_on_its_own_loop():
    async def main():
        waiting = threading.Event()

        async def below():
            waiting.set()
            await asyncio.Event().wait()

        work = sync_to_async(async_to_sync(below, force_new_loop=True))
        task = asyncio.create_task(work())
        await asyncio.to_thread(waiting.wait, 30)
        return await cancelled(task)

    assert asyncio.run(main())


@pytest.mark.timeout(30, method="thread")
@pytest.mark.parametrize("sensitive", [True, False])
@pytest.mark.parametrize("how", ["cancelled", "cancelled twice", "timeout"])
def test_a_cancellation_too_late_for_a_coroutine_on_another_loop_releases_the_caller(
    how, sensitive
):
    """As with a function that calls no coroutine, the function continues alone."""
    at_last_step, finish = threading.Event(), threading.Event()
    coroutine_ended, release = threading.Event(), threading.Event()

    async def below():
        at_last_step.set()
        finish.wait(SOON)

    def work():
        async_to_sync(below, force_new_loop=True)()
        coroutine_ended.set()
        assert release.wait(SOON)

    async def call(scope):
        async with scope:
            await sync_to_async(work, thread_sensitive=sensitive)()

    async def main():
        scope = asyncio.timeout(None)
        task = asyncio.create_task(call(scope))
        await asyncio.to_thread(at_last_step.wait, SOON)
        for _ in range(2 if how == "cancelled twice" else 1):
            if how == "timeout":
                scope.reschedule(0)
            else:
                task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        finish.set()
        assert await asyncio.to_thread(coroutine_ended.wait, SOON)
        done, _ = await asyncio.wait([task], timeout=SOON / 2)
        is_released = bool(done) and not release.is_set()
        release.set()
        await asyncio.wait([task])
        assert is_released
        return task

    task = asyncio.run(main())
    if how == "timeout":
        assert isinstance(task.exception(), TimeoutError)
    else:
        assert task.cancelled()


def test_a_coroutine_cancelled_before_its_first_step_ends_the_wait():
    started = threading.Event()
    ran = []

    async def below():
        ran.append("below")

    def work():
        started.set()
        async_to_sync(below)()

    async def main():
        task = asyncio.create_task(sync_to_async(work)())
        await asyncio.sleep(0)
        # The loop does not run between here and the cancellation, so the start stays queued.
        started.wait(30)
        call = None
        while call is None:
            call = next((t for t in threading.enumerate() if t.name == "asgiref-shared"), None)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return ran == ["below"]

    assert asyncio.run(main())


def test_asyncio_run_cancels_the_calls_that_its_last_tasks_wait_for():
    ended = threading.Event()

    async def main():
        waiting = asyncio.Event()

        async def below():
            waiting.set()
            await asyncio.Event().wait()

        def work():
            try:
                async_to_sync(below)()
            finally:
                ended.set()

        main.task = asyncio.create_task(sync_to_async(work, thread_sensitive=False)())
        await waiting.wait()

    asyncio.run(main())
    assert ended.is_set()
    assert main.task.cancelled()


def test_a_loop_closed_under_a_coroutine_is_an_error_and_not_a_hang():
    failed = []
    below_started, ended = threading.Event(), threading.Event()

    async def below():
        below_started.set()
        await asyncio.Event().wait()

    def work():
        try:
            async_to_sync(below)()
        except RuntimeError as error:
            failed.append(str(error))
        finally:
            ended.set()

    loop = asyncio.new_event_loop()
    task = loop.create_task(sync_to_async(work, thread_sensitive=False)())

    async def until_below_runs():
        await asyncio.to_thread(below_started.wait, 30)

    loop.run_until_complete(until_below_runs())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert ended.wait(30)
    assert "closed" in failed[0]
    # These tasks never finish; asyncio would complain when they are collected.
    for pending in (task, *asyncio.all_tasks(loop)):
        pending._log_destroy_pending = False
