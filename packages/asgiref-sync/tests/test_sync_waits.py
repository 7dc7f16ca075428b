"""Deadlocks, slow waits, and reports on waiting threads."""

import asyncio
import contextlib
import io
import logging
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from asgiref.sync import (
    LimitedExecutor,
    ThreadSensitiveContext,
    async_to_sync,
    log_slow_waits,
    report_threads,
    start_on_calling_loop,
    sync_to_async,
)


def in_a_thread(function):
    """Run `function` in a new thread and join it, like code that deadlocks."""
    outcome = []

    def work():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="a-thread-of-its-own")
    thread.start()
    thread.join()
    return outcome[0]


class OtherLoop:
    """A context manager: an event loop that runs in a thread of its own."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self.loop

    def __exit__(self, *exc_info):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def needs_the_shared_thread():
    return await sync_to_async(int)("5")


def test_a_loop_in_a_joined_thread_that_needs_the_joining_one_is_an_error():
    def joins():
        return in_a_thread(lambda: asyncio.run(needs_the_shared_thread()))

    error = asyncio.run(sync_to_async(joins)())
    assert isinstance(error, RuntimeError)
    message = str(error)
    assert "builtins.int would deadlock" in message
    assert "asgiref-shared" in message
    assert "joins waits without a timeout for thread a-thread-of-its-own" in message
    assert asyncio.run(needs_the_shared_thread()) == 5


@pytest.mark.timeout(20, method="thread")
def test_a_join_that_starts_before_its_call_is_counted_is_an_error():
    """Other threads may run at any line of the thread that queued the function."""
    started, asked = threading.Event(), threading.Event()

    async def needs_it_at_once():
        asyncio.get_running_loop().call_soon(asked.set)
        return await needs_the_shared_thread()

    def joins():
        started.set()
        return in_a_thread(lambda: asyncio.run(needs_it_at_once()))

    def pause(frame, event, argument):
        """At the first line after queuing, let the function start and reach its wait."""
        if event == "line" and started.wait(0.01):
            asked.wait(0.5)
            sys.settrace(None)
            return None
        return pause if "asgiref" in frame.f_code.co_filename else None

    async def main():
        await sync_to_async(int)()
        before = sys.gettrace()
        sys.settrace(pause)
        try:
            return await sync_to_async(joins)()
        finally:
            sys.settrace(before)

    assert "would deadlock" in str(asyncio.run(main()))


def test_a_chain_of_joins_is_traced():
    def joins():
        return in_a_thread(lambda: in_a_thread(lambda: asyncio.run(needs_the_shared_thread())))

    assert "would deadlock" in str(asyncio.run(sync_to_async(joins)()))


@pytest.mark.parametrize("method", ["result", "exception"])
def test_a_loop_in_an_executor_whose_result_the_needed_thread_awaits_is_an_error(method):
    def awaits():
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(asyncio.run, needs_the_shared_thread())
            getattr(future, method)()
            return future.result()

    with pytest.raises(RuntimeError, match="would deadlock"):
        asyncio.run(sync_to_async(awaits)())
    assert asyncio.run(needs_the_shared_thread()) == 5


def test_a_future_from_the_packages_own_executor_is_traced():
    def awaits():
        future = LimitedExecutor(1).submit(asyncio.run, needs_the_shared_thread())
        return future.result()

    with pytest.raises(RuntimeError, match="would deadlock"):
        asyncio.run(sync_to_async(awaits)())


def test_a_wait_for_a_result_with_a_timeout_is_not_a_deadlock():
    def awaits():
        future = executor.submit(asyncio.run, needs_the_shared_thread())
        with pytest.raises(TimeoutError):
            future.result(timeout=0.5)  # longer than it takes to find a deadlock
        return future

    with ThreadPoolExecutor(1) as executor:
        future = asyncio.run(sync_to_async(awaits)())
        assert future.result(10) == 5


def test_a_top_level_call_in_a_joined_thread_is_not_a_deadlock():
    def joins():
        return in_a_thread(async_to_sync(needs_the_shared_thread))

    assert asyncio.run(sync_to_async(joins)()) == 5


def test_a_coroutine_scheduled_from_sync_code_is_not_told_that_it_would_deadlock():
    async def main():
        loop = asyncio.get_running_loop()

        def schedules():
            return asyncio.run_coroutine_threadsafe(needs_the_shared_thread(), loop)

        future = await sync_to_async(schedules)()
        return await asyncio.wrap_future(future)

    assert asyncio.run(main()) == 5


def test_a_call_after_a_failed_submit_is_not_told_that_it_would_deadlock(monkeypatch):
    from asgiref.sync import SyncToAsync

    class Broken:
        def submit(self, function):
            raise OSError("full")

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(SyncToAsync, "single_thread_executor", Broken())
            with pytest.raises(OSError, match="full"):
                await needs_the_shared_thread()
        return await needs_the_shared_thread()

    assert asyncio.run(main()) == 5


def test_a_busy_thread_is_not_a_deadlock():
    release = threading.Event()

    async def main():
        blocked = asyncio.create_task(sync_to_async(release.wait)(30))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(needs_the_shared_thread())
        # The loop checks the queue several times before the thread is free.
        asyncio.get_running_loop().call_later(0.5, release.set)
        return await waiting, await blocked

    assert asyncio.run(main()) == (5, True)


async def gathers():
    return (await asyncio.gather(needs_the_shared_thread(), asyncio.sleep(0)))[0]


async def gathers_two_calls():
    return (await asyncio.gather(needs_the_shared_thread(), needs_the_shared_thread()))[0]


async def gathers_in_a_group():
    async with asyncio.TaskGroup() as group:
        task = group.create_task(needs_the_shared_thread())
        group.create_task(asyncio.sleep(0))
    return task.result()


async def calls_in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(needs_the_shared_thread())
        return await needs_the_shared_thread()


async def awaits_a_task():
    return await asyncio.create_task(needs_the_shared_thread())


WAITS_FOR_FUTURES = {
    "result": lambda future: future.result(),
    "exception": lambda future: future.exception() or future.result(),
    "wait": lambda future: wait([future]) and future.result(),
    "wait for the first": (
        lambda future: wait([future], return_when=FIRST_COMPLETED) and future.result()
    ),
    "in a thread": lambda future: in_a_thread(future.result),
}


def raises_deadlock(coroutine):
    """Whether `coroutine` raises a deadlock error, alone or in a group."""
    with pytest.raises((RuntimeError, ExceptionGroup)) as info:
        asyncio.run(coroutine)
    error = info.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return "would deadlock" in str(error)


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize(
    "function",
    [
        needs_the_shared_thread,
        gathers,
        gathers_two_calls,
        gathers_in_a_group,
        calls_in_a_group,
        awaits_a_task,
    ],
)
def test_a_coroutine_that_needs_the_thread_that_waits_for_it_is_an_error(function):
    async def main():
        loop = asyncio.get_running_loop()

        def waits():
            return asyncio.run_coroutine_threadsafe(function(), loop).result()

        return await sync_to_async(waits)()

    assert raises_deadlock(main())
    assert asyncio.run(function()) == 5


def test_the_error_names_the_functions_and_threads_of_a_wait_for_a_coroutine():
    async def main():
        loop = asyncio.get_running_loop()

        def waits():
            return asyncio.run_coroutine_threadsafe(needs_the_shared_thread(), loop).result()

        return await sync_to_async(waits)()

    with pytest.raises(RuntimeError) as info:
        asyncio.run(main())
    message = str(info.value)
    assert message.startswith("builtins.int would deadlock: it must run on thread asgiref-shared")
    assert message.endswith(
        "waits waits without a timeout for a coroutine on thread MainThread, "
        "whose event loop waits for builtins.int"
    )


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize("way", WAITS_FOR_FUTURES)
def test_every_wait_without_a_timeout_for_a_coroutines_future_is_detected(way):
    async def main():
        def waits():
            future = start_on_calling_loop(needs_the_shared_thread())
            outcome = WAITS_FOR_FUTURES[way](future)
            if isinstance(outcome, BaseException):
                raise outcome

        await sync_to_async(waits)()

    assert raises_deadlock(main())


@pytest.mark.timeout(20, method="thread")
def test_a_coroutine_on_another_threads_loop_that_needs_the_waiting_thread_is_an_error():
    with OtherLoop() as loop:

        def waits():
            return asyncio.run_coroutine_threadsafe(needs_the_shared_thread(), loop).result()

        assert raises_deadlock(sync_to_async(waits)())


@pytest.mark.timeout(20, method="thread")
def test_a_coroutine_that_needs_the_waiting_thread_of_its_context_is_an_error():
    async def main():
        def waits():
            return start_on_calling_loop(needs_the_shared_thread()).result()

        async with ThreadSensitiveContext():
            await sync_to_async(waits)()

    assert raises_deadlock(main())


@pytest.mark.timeout(20, method="thread")
def test_a_coroutine_that_needs_the_waiting_thread_inside_async_to_sync_is_an_error():
    async def main():
        def waits():
            return start_on_calling_loop(needs_the_shared_thread()).result()

        await sync_to_async(waits)()

    with pytest.raises(RuntimeError, match="would deadlock"):
        async_to_sync(main)()


@pytest.mark.timeout(20, method="thread")
def test_a_wait_for_a_coroutine_with_a_timeout_is_not_a_deadlock():
    async def main():
        def waits():
            future = start_on_calling_loop(needs_the_shared_thread())
            with pytest.raises(TimeoutError):
                future.result(timeout=0.5)  # longer than it takes to find a deadlock
            return future

        return await asyncio.wrap_future(await sync_to_async(waits)())

    assert asyncio.run(main()) == 5


async def has_a_timeout():
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(needs_the_shared_thread(), 0.5)
    return "timed out"


async def is_in_a_timeout():
    try:
        async with asyncio.timeout(0.5):
            await needs_the_shared_thread()
    except TimeoutError:
        return "timed out"


async def does_not_wait_for_it():
    BACKGROUND.append(asyncio.create_task(needs_the_shared_thread()))
    await asyncio.sleep(0.5)
    return "ended"


async def has_a_sibling_that_fails_later():
    async def fails():
        await asyncio.sleep(0.5)
        raise LookupError

    try:
        await asyncio.gather(needs_the_shared_thread(), fails())
    except LookupError:
        return "failed"


async def is_in_a_group_that_fails_later():
    async def fails():
        await asyncio.sleep(0.5)
        raise LookupError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await needs_the_shared_thread()
    except* LookupError:
        pass
    return "failed"


#: Tasks that outlive the coroutine that created them.
BACKGROUND = []


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        (has_a_timeout, "timed out"),
        (is_in_a_timeout, "timed out"),
        (does_not_wait_for_it, "ended"),
        (has_a_sibling_that_fails_later, "failed"),
        (is_in_a_group_that_fails_later, "failed"),
    ],
)
def test_a_wait_for_a_coroutine_that_ends_without_the_thread_is_not_a_deadlock(function, outcome):
    async def main():
        def waits():
            return start_on_calling_loop(function()).result()

        result = await sync_to_async(waits)()
        while BACKGROUND:
            assert await BACKGROUND.pop() == 5
        return result

    assert asyncio.run(main()) == outcome


@pytest.mark.timeout(20, method="thread")
def test_a_call_outlives_a_sibling_that_fails_just_before_the_loop_checks_for_a_deadlock():
    async def main():
        released = asyncio.get_running_loop().create_future()
        tasks, queued = [], asyncio.Event()

        async def fails():
            await released
            raise LookupError

        async def gathers():
            tasks.append(asyncio.create_task(needs_the_shared_thread()))
            asyncio.get_running_loop().call_soon(queued.set)
            await asyncio.gather(*tasks, fails())

        def waits():
            future = start_on_calling_loop(gathers())
            future.exception()
            return future

        def release():
            released.set_result(None)
            # While this blocks the loop, the check becomes due. It then runs after the task that
            # fails, and before the task's callback, which ends `gather`.
            time.sleep(0.3)

        waiting = asyncio.create_task(sync_to_async(waits)())
        await queued.wait()
        asyncio.get_running_loop().call_soon(release)
        future = await waiting
        assert isinstance(future.exception(), LookupError)
        return await tasks[0]

    assert asyncio.run(main()) == 5


@pytest.mark.timeout(20, method="thread")
def test_another_requests_call_is_not_a_deadlock_while_the_thread_waits_for_a_coroutine():
    async def main():
        release = asyncio.Event()

        def waits():
            return start_on_calling_loop(release.wait()).result()

        waiting = asyncio.create_task(sync_to_async(waits)())
        await asyncio.sleep(0)
        other = asyncio.create_task(needs_the_shared_thread())
        # The loop checks the queued call before the thread is free.
        asyncio.get_running_loop().call_later(0.5, release.set)
        return await other, await waiting

    assert asyncio.run(main()) == (5, True)


@pytest.mark.timeout(20, method="thread")
def test_another_requests_call_runs_after_a_deadlock_was_refused():
    async def main():
        def waits():
            return start_on_calling_loop(needs_the_shared_thread()).result()

        waiting = asyncio.create_task(sync_to_async(waits)())
        await asyncio.sleep(0)
        other = asyncio.create_task(needs_the_shared_thread())
        return await asyncio.gather(waiting, other, return_exceptions=True)

    error, result = asyncio.run(main())
    assert "would deadlock" in str(error)
    assert result == 5


def test_a_report_shows_the_call_and_the_wait_of_each_thread():
    async def main():
        waiting, go_on = asyncio.Event(), asyncio.Event()

        async def below():
            waiting.set()
            await go_on.wait()

        def works():
            async_to_sync(below)()

        task = asyncio.create_task(sync_to_async(works)())
        await waiting.wait()
        queued = asyncio.create_task(needs_the_shared_thread())
        await asyncio.sleep(0)
        printed = io.StringIO()
        reports = report_threads(file=printed)
        go_on.set()
        await task
        await queued
        return reports, printed.getvalue()

    (report,), printed = asyncio.run(main())
    assert report.name == "asgiref-shared"
    assert report.runs is not None
    assert report.runs.endswith("works")
    assert report.waits_for is not None
    assert "below at " in report.waits_for
    assert report.stands_at.endswith("in works")
    assert report.queued == 1
    assert printed == f"{report}\n"
    assert report_threads() == ()


@pytest.fixture
def slow_waits():
    log_slow_waits(0.01)
    yield
    log_slow_waits(None)


@pytest.mark.usefixtures("slow_waits")
def test_long_waits_are_logged_once_each(caplog):
    release = threading.Event()

    async def works():
        await sync_to_async(release.wait, thread_sensitive=False)(30)

    class Release(logging.Handler):
        seen = 0

        def emit(self, record):
            self.seen += 1
            if self.seen == 2:
                release.set()

    handler = Release()
    logger = logging.getLogger("asgiref.sync")
    logger.addHandler(handler)
    try:
        async_to_sync(works)()
    finally:
        logger.removeHandler(handler)
    messages = sorted(record.getMessage().split(" for 0.01 s")[0] for record in caplog.records)
    assert [message.split("waited for")[0] for message in messages] == [
        "a task has ",
        "a thread has ",
    ]
    assert messages[0].endswith("Event.wait")
    assert messages[1].endswith("works")


@pytest.mark.usefixtures("slow_waits")
def test_short_waits_are_not_logged(caplog):
    log_slow_waits(60)
    async_to_sync(needs_the_shared_thread)()
    assert caplog.records == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_invalid_time_is_rejected(seconds):
    with pytest.raises(ValueError, match="positive number or None"):
        log_slow_waits(seconds)
