"""Calls leave no thread, loop, task or reference behind."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async


class Argument:
    """An object that supports weak references."""


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def returns(argument):
    return None


def fails(argument):
    raise ValueError("failed")


async def returns_async(argument):
    return None


async def fails_async(argument):
    raise ValueError("failed")


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sensitive", [True, False])
@pytest.mark.parametrize("function", [returns, fails])
def test_arguments_of_sync_code_die_without_the_collector(function, sensitive):
    async def main():
        argument = Argument()
        watched = weakref.ref(argument)
        with contextlib.suppress(ValueError):
            await sync_to_async(function, thread_sensitive=sensitive)(argument)
        del argument
        # The thread may not be back at its queue yet; the next call waits for it.
        await sync_to_async(int, thread_sensitive=sensitive)()
        return watched()

    assert asyncio.run(main()) is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("function", [returns, fails])
def test_arguments_die_without_the_collector_on_an_applications_executor(function):
    async def main(executor):
        argument = Argument()
        watched = weakref.ref(argument)
        call = sync_to_async(function, thread_sensitive=False, executor=executor)
        with contextlib.suppress(ValueError):
            await call(argument)
        del argument
        await sync_to_async(int, thread_sensitive=False, executor=executor)()
        return watched()

    with ThreadPoolExecutor(1) as executor:
        assert asyncio.run(main(executor)) is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("function", [returns_async, fails_async])
@pytest.mark.parametrize("bridged", [False, True])
def test_arguments_of_async_code_die_without_the_collector(function, bridged):
    def call():
        argument = Argument()
        watched = weakref.ref(argument)
        with contextlib.suppress(ValueError):
            async_to_sync(function)(argument)
        del argument
        return watched

    async def let_the_loop_turn():
        await asyncio.sleep(0)

    def main():
        watched = call()
        async_to_sync(let_the_loop_turn)()
        return watched()

    assert (asyncio.run(sync_to_async(main)()) if bridged else main()) is None


async def call_both_ways():
    await sync_to_async(int)()
    await sync_to_async(int, thread_sensitive=False)()


async def serve_request():
    async with ThreadSensitiveContext():
        await sync_to_async(async_to_sync(call_both_ways))()
    with pytest.raises(ValueError, match="failed"):
        await sync_to_async(fails, thread_sensitive=False)(1)


def use_all_kinds_of_calls():
    asyncio.run(serve_request())
    async_to_sync(call_both_ways)()
    with pytest.raises(ValueError, match="failed"):
        async_to_sync(fails_async)(1)


def test_many_calls_leave_no_thread_loop_task_context_or_descriptor_behind():
    kinds = asyncio.AbstractEventLoop, asyncio.Task, contextvars.Context

    def resources():
        gc.collect()
        counted = Counter(thread=threading.active_count(), fd=len(os.listdir("/proc/self/fd")))
        counted.update(kind for o in gc.get_objects() for kind in kinds if isinstance(o, kind))
        return counted

    for _ in range(20):
        use_all_kinds_of_calls()
    before = resources()
    for _ in range(200):
        use_all_kinds_of_calls()
    more = resources() - before
    # A call starts another worker, with a context, if the last one is still on its way back.
    assert all(number < 10 for number in more.values()), more


def blocks_left_by(calls, repetitions=300):
    """Return how many more memory blocks are in use afterwards, for each repetition."""
    for _ in range(600):  # CPython 3.11 allocates memory during hundreds of calls
        calls()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(repetitions):
        calls()
    gc.collect()
    return (sys.getallocatedblocks() - before) / repetitions


@pytest.mark.skipif(not sys.getallocatedblocks(), reason="this build does not count its blocks")
def test_many_calls_leave_no_memory_in_use():
    leaked = []

    def use_and_leak_one_object():
        use_all_kinds_of_calls()
        leaked.append(object())

    assert blocks_left_by(use_all_kinds_of_calls) < 0.5
    assert blocks_left_by(use_and_leak_one_object) > 0.5  # so one object for each call is noticed


def test_a_value_in_a_context_dies_with_its_context():
    variable = contextvars.ContextVar("variable")

    async def main():
        argument = Argument()
        variable.set(argument)
        await sync_to_async(int)()
        await sync_to_async(async_to_sync(asyncio.sleep))(0)
        return weakref.ref(argument)

    watched = asyncio.run(main())
    asyncio.run(sync_to_async(int)())
    gc.collect()
    assert watched() is None


def test_an_idle_loop_does_not_keep_the_context_of_the_call_that_it_was_made_for():
    value = contextvars.ContextVar("value")
    loops = sum(thread.name.startswith("asgiref-loop") for thread in threading.enumerate())

    def call(barrier):
        async def wait_for_the_others():
            barrier.wait()

        argument = Argument()
        value.set(argument)
        async_to_sync(wait_for_the_others)()
        return weakref.ref(argument)

    def calls():
        """Make one more simultaneous call than there are loops, so that at least one is created."""
        barrier = threading.Barrier(loops + 1)
        with ThreadPoolExecutor(loops + 1) as threads:
            contexts = [contextvars.copy_context() for _ in range(loops + 1)]
            return list(threads.map(lambda context: context.run(call, barrier), contexts))

    first = calls()
    calls()  # afterwards, each loop has finished the first
    gc.collect()
    assert [argument() for argument in first] == [None] * len(first)


def test_a_closed_loop_is_not_kept():
    async def main():
        await sync_to_async(int)()
        await sync_to_async(async_to_sync(asyncio.sleep))(0)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None


def test_a_task_that_fails_after_a_call_dies_without_the_collector():
    async def main():
        async def fail():
            await sync_to_async(fails)(1)

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        assert isinstance(task.exception(), ValueError)
        watched = weakref.ref(task)
        del task
        await sync_to_async(int)()
        return watched()

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main()) is None
    finally:
        gc.enable()
