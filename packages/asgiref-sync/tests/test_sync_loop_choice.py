"""The choice of the event loop for a coroutine: loop factories, and a running loop."""

import asyncio
import os
import sys
import threading
import time

import pytest
from probes import SOON, double

from asgiref.sync import (
    AsyncSingleThreadContext,
    AsyncToSync,
    async_to_sync,
    async_to_sync_iterator,
    set_loop_factory,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(20, method="thread")


class FirstLoop(asyncio.SelectorEventLoop):
    pass


class SecondLoop(asyncio.SelectorEventLoop):
    pass


async def kind():
    return type(asyncio.get_running_loop())


@pytest.fixture
def default():
    yield set_loop_factory
    set_loop_factory(None)


# A factory


def test_a_wrapper_can_choose_the_loop():
    chosen = async_to_sync(kind, loop_factory=FirstLoop)
    other = async_to_sync(kind, loop_factory=SecondLoop)
    plain = async_to_sync(kind)()
    assert [chosen(), other(), chosen()] == [FirstLoop, SecondLoop, FirstLoop]
    assert async_to_sync(kind)() is plain
    assert plain not in (FirstLoop, SecondLoop)


def test_a_decorator_can_choose_the_loop():
    @async_to_sync(loop_factory=FirstLoop)
    async def decorated():
        return await kind()

    assert decorated() is FirstLoop


def test_a_method_can_choose_the_loop():
    class Thing:
        @async_to_sync(loop_factory=FirstLoop)
        async def kind(self):
            return self, await kind()

    thing = Thing()
    assert thing.kind() == (thing, FirstLoop)


def test_the_process_can_choose_every_loop(default):
    async_to_sync(kind)()
    default(FirstLoop)
    assert async_to_sync(kind)() is FirstLoop
    assert async_to_sync(kind, loop_factory=SecondLoop)() is SecondLoop
    with AsyncSingleThreadContext():
        assert async_to_sync(kind)() is FirstLoop

    async def kinds():
        yield await kind()

    assert list(async_to_sync_iterator(kinds())) == [FirstLoop]
    default(SecondLoop)
    assert async_to_sync(kind)() is SecondLoop
    default(None)
    assert async_to_sync(kind)() not in (FirstLoop, SecondLoop)


@pytest.mark.skipif(
    "ASGIREF_SYNC_PUBLIC_ASYNCIO" in os.environ or sys.platform != "linux",
    reason="public API does not show whether a loop was used",
)
def test_a_loop_from_a_chosen_plain_factory_is_reused():
    async def loop():
        return asyncio.get_running_loop()

    call = async_to_sync(loop, loop_factory=asyncio.SelectorEventLoop)
    assert call() is call()


def test_inside_sync_to_async_the_calling_loop_is_used_despite_any_choice(default):
    default(FirstLoop)

    async def main():
        called = await sync_to_async(async_to_sync(kind, loop_factory=SecondLoop))()
        forced = await sync_to_async(
            async_to_sync(kind, force_new_loop=True, loop_factory=SecondLoop)
        )()
        return called is await kind(), forced

    assert asyncio.run(main()) == (True, SecondLoop)


def test_an_exception_from_a_factory_is_raised_in_the_caller():
    def fails():
        raise OSError("no loop today")

    with pytest.raises(OSError, match="no loop today"):
        async_to_sync(double, loop_factory=fails)(1)
    assert async_to_sync(double)(1) == 2


@pytest.mark.skipif(sys.version_info < (3, 14), reason="policies are deprecated since 3.14")
def test_loops_are_made_without_policies(monkeypatch, default):
    """In Python 3.16, asyncio has no policies."""
    for module in (asyncio, asyncio.events):
        for name in ("_get_event_loop_policy", "get_event_loop_policy"):
            monkeypatch.delattr(module, name, raising=False)
        monkeypatch.setattr(module, "set_event_loop", lambda loop: None)
        monkeypatch.setattr(module, "new_event_loop", asyncio.SelectorEventLoop)
    default(FirstLoop)
    assert async_to_sync(kind)() is FirstLoop
    default(None)
    assert async_to_sync(double)(2) == 4


# If a loop already runs


def test_the_error_for_a_running_loop_names_the_option():
    async def main():
        with pytest.raises(RuntimeError, match="allow_running_loop=True"):
            async_to_sync(double)(1)

    asyncio.run(main())


def test_a_coroutine_can_run_next_to_the_running_loop():
    async def where():
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.current_thread()

    async def main():
        here = asyncio.get_running_loop()
        task = asyncio.current_task()
        loop, thread = async_to_sync(where, allow_running_loop=True)()
        assert loop is not here
        assert thread is not threading.current_thread()
        assert asyncio.get_running_loop() is here
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
        return True

    assert asyncio.run(main())


def test_the_option_changes_nothing_if_no_loop_runs():
    call = async_to_sync(double, allow_running_loop=True)
    assert call(2) == 4
    assert asyncio.run(sync_to_async(call)(3)) == 6


def test_the_blocked_loops_thread_runs_the_thread_sensitive_functions():
    async def main():
        thread = async_to_sync(sync_to_async(threading.current_thread), allow_running_loop=True)()
        return thread is threading.current_thread()

    assert asyncio.run(main())


def test_inner_synchronous_code_sees_no_running_loop():
    def sync_code():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return async_to_sync(double)(1)

    async def main():
        return async_to_sync(sync_to_async(sync_code), allow_running_loop=True)()

    assert asyncio.run(main()) == 2


def test_an_exception_is_raised_where_the_loop_is_blocked():
    async def fails():
        raise LookupError("beside")

    async def main():
        task = asyncio.current_task()
        with pytest.raises(LookupError, match="beside"):
            async_to_sync(fails, allow_running_loop=True)()
        return asyncio.current_task() is task

    assert asyncio.run(main())


def test_a_loop_that_runs_on_a_worker_thread_can_be_blocked_too():
    async def inner():
        return async_to_sync(double, allow_running_loop=True)(4)

    async def main():
        return await sync_to_async(asyncio.run)(inner())

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == 8


def test_tasks_of_the_blocked_loop_continue_afterwards():
    async def main():
        ticks = []

        async def ticker():
            for _ in range(3):
                ticks.append(time.monotonic())
                await asyncio.sleep(0)

        task = asyncio.create_task(ticker())
        async_to_sync(double, allow_running_loop=True)(1)
        assert ticks == []
        await task
        return len(ticks)

    assert asyncio.run(main()) == 3


def test_a_subclass_that_does_not_know_the_options_works():
    class Old(AsyncToSync):
        def __init__(self, awaitable):
            self.awaitable = awaitable
            self.force_new_loop = False

    assert Old(double)(2) == 4
