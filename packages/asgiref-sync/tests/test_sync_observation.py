"""An observer of calls across the bridge."""

import asyncio
import gc
import logging
import threading

import pytest
from probes import SOON, double

from asgiref.sync import (
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    observe_calls,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(20, method="thread")


@pytest.fixture
def events():
    seen = []
    observe_calls(seen.append)
    yield seen
    observe_calls(None)


def thread():
    return threading.current_thread()


@pytest.mark.parametrize("thread_sensitive", [True, False])
def test_a_function_is_seen_to_start_and_finish_on_its_thread(events, thread_sensitive):
    call = sync_to_async(thread, thread_sensitive=thread_sensitive)
    found = asyncio.run(call())
    started, finished = events
    assert (started.kind, finished.kind) == ("started", "finished")
    for event in events:
        assert event.way == "sync_to_async"
        assert event.function is thread
        assert event.thread is found
        assert event.waited >= 0
        assert event.error is None
    assert started.took is None
    assert finished.took >= 0


def test_a_coroutine_is_seen_to_start_and_finish(events):
    assert async_to_sync(double)(2) == 4
    assert [(event.kind, event.way, event.function) for event in events] == [
        ("started", "async_to_sync", double),
        ("finished", "async_to_sync", double),
    ]
    assert events[0].thread is events[1].thread is not threading.current_thread()


def test_the_observer_sees_a_calls_exception(events):
    def fails():
        raise LookupError("of the function")

    async def fails_later():
        raise KeyError("of the coroutine")

    with pytest.raises(LookupError) as caught:
        asyncio.run(sync_to_async(fails)())
    assert events[1].error is caught.value
    with pytest.raises(KeyError) as caught:
        async_to_sync(fails_later)()
    assert events[3].error is caught.value


def test_the_observer_sees_the_number_of_waiting_calls(events):
    release = threading.Event()

    async def main():
        async with ThreadSensitiveContext():
            first = asyncio.create_task(sync_to_async(release.wait)(SOON))
            await asyncio.sleep(0)
            others = [asyncio.create_task(sync_to_async(int)()) for _ in range(3)]
            await asyncio.sleep(0)
            release.set()
            await asyncio.gather(first, *others)

    asyncio.run(main())
    queued = [event.queued for event in events if event.kind == "started" and event.function is int]
    assert queued == [2, 1, 0]


def test_an_observer_that_raises_changes_nothing(caplog):
    def broken(event):
        raise ValueError("broken observer")

    observe_calls(broken)
    try:
        with caplog.at_level(logging.ERROR, logger="asgiref.sync"):
            assert asyncio.run(sync_to_async(int)("5")) == 5
            assert async_to_sync(double)(2) == 4
    finally:
        observe_calls(None)
    assert caplog.text.count("ValueError: broken observer") == 4


def test_hooks_of_integrations_run_inside_the_observed_time(events):
    order = []

    class Traced(SyncToAsync):
        def thread_handler(self, loop, *args, **kwargs):
            order.append(len(events))
            return super().thread_handler(loop, *args, **kwargs)

    assert asyncio.run(Traced(int)("7")) == 7
    assert order == [1]
    assert len(events) == 2


def test_the_exception_being_handled_is_carried_to_an_observed_function(events):
    import sys

    async def main():
        try:
            raise LookupError("handled")
        except LookupError as error:
            return await sync_to_async(sys.exception)() is error

    assert asyncio.run(main())


def test_nothing_is_observed_afterwards(events):
    observe_calls(None)
    asyncio.run(sync_to_async(int)())
    assert events == []


def test_tasks_and_threads_have_descriptive_names():
    async def names():
        await asyncio.sleep(0)
        return asyncio.current_task().get_name(), threading.current_thread().name

    task, loop_thread = async_to_sync(names)()
    assert task == f"async_to_sync {__name__}.{names.__qualname__}"
    assert loop_thread.startswith("asgiref-loop")
    assert asyncio.run(sync_to_async(thread)()).name == "asgiref-shared"


@pytest.mark.filterwarnings("error")
def test_an_observed_call_that_cannot_start_leaves_no_coroutine_unawaited(events, recwarn):
    async def coroutine():
        raise AssertionError("the coroutine runs")

    def fail():
        raise OSError("no event loop")

    with pytest.raises(OSError, match="no event loop"):
        async_to_sync(coroutine, loop_factory=fail)()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
    assert events == []
