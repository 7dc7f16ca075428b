"""Names from asgiref 3.13 that integrations read or assign exist and have an effect."""

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from probes import SOON, assert_all_works, double

from asgiref.sync import (
    AsyncSingleThreadContext,
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(20, method="thread")

KINDS = [True, False, "context", "below"]


async def where():
    return id(asyncio.get_running_loop())


async def call(kind, function):
    if kind == "context":
        async with ThreadSensitiveContext():
            return await sync_to_async(function)()
    if kind == "below":
        inner = sync_to_async(function)
        return await sync_to_async(async_to_sync(inner.__call__))()
    return await sync_to_async(function, thread_sensitive=kind)()


def parent_loop():
    return getattr(SyncToAsync.threadlocal, "main_event_loop", None)


def parent_pid():
    return getattr(SyncToAsync.threadlocal, "main_event_loop_pid", None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_sees_the_loop_that_called_it(kind):
    async def main():
        seen = await call(kind, lambda: (parent_loop(), parent_pid()))
        assert seen == (asyncio.get_running_loop(), os.getpid())

    asyncio.run(main())
    async_to_sync(main)()


def test_code_that_no_loop_called_sees_none():
    seen = []

    def look():
        local = SyncToAsync.threadlocal
        names = ["main_event_loop", "main_event_loop_pid"]
        seen.extend([parent_loop(), *(hasattr(local, name) for name in names)])
        local.main_event_loop, local.main_event_loop_pid = None, os.getpid()
        seen.append(local.main_event_loop)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(SOON)
    assert seen == [None, False, False, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["None", "deleted", "pid", "stopped loop"])
def test_a_parent_loop_that_is_hidden_is_not_used_until_it_is_shown_again(kind, how):
    local = SyncToAsync.threadlocal
    stopped = asyncio.new_event_loop()
    stopped.close()

    def work():
        seen = local.main_event_loop, local.main_event_loop_pid
        if how == "None":
            local.main_event_loop = local.main_event_loop_pid = None
        elif how == "deleted":
            del local.main_event_loop
        elif how == "pid":
            local.main_event_loop_pid = -1
        else:
            local.main_event_loop = stopped
        try:
            hidden = async_to_sync(where)()
        finally:
            local.main_event_loop, local.main_event_loop_pid = seen
        return hidden, async_to_sync(where)(), parent_loop() is seen[0]

    async def main():
        hidden, shown, restored = await call(kind, work)
        assert hidden != await where()
        assert shown == await where()
        assert restored
        # The next function sees the loop that this one hid.
        assert await call(kind, parent_loop) is asyncio.get_running_loop()

    asyncio.run(main())
    assert_all_works()


def test_a_function_hides_the_calling_loop_only_on_its_own_thread():
    both = threading.Barrier(2)

    def hide():
        SyncToAsync.threadlocal.main_event_loop = None
        both.wait(SOON)
        both.wait(SOON)
        return parent_loop()

    def look():
        both.wait(SOON)
        seen = parent_loop()
        both.wait(SOON)
        return seen

    async def main():
        hidden, seen = await asyncio.gather(
            sync_to_async(hide, thread_sensitive=False)(),
            sync_to_async(look, thread_sensitive=False)(),
        )
        assert hidden is None
        assert seen is asyncio.get_running_loop()

    asyncio.run(main())


def test_the_parent_loop_can_be_set_in_code_that_no_loop_called():
    """A program that runs a loop in one thread passes it to code in another."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def work():
        SyncToAsync.threadlocal.main_event_loop = loop
        SyncToAsync.threadlocal.main_event_loop_pid = os.getpid()
        results.append(async_to_sync(where)())

    results = []
    other = threading.Thread(target=work)
    other.start()
    other.join(SOON)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(SOON)
    loop.close()
    assert results == [id(loop)]


@pytest.mark.parametrize("by", ["context", "blocked call"])
def test_a_blocked_loop_can_submit_a_function_that_calls_coroutines(by):
    """A framework that runs the ORM from its loop hides the loop, which is blocked."""

    def without_parent_loop():
        local = SyncToAsync.threadlocal
        seen = getattr(local, "main_event_loop", None), getattr(local, "main_event_loop_pid", None)
        local.main_event_loop = local.main_event_loop_pid = None
        try:
            return async_to_sync(double)(2)
        finally:
            local.main_event_loop, local.main_event_loop_pid = seen

    def block(executor):
        context = contextvars.copy_context()
        return executor.submit(context.run, without_parent_loop).result(SOON)

    async def by_context():
        async with ThreadSensitiveContext() as context:
            await sync_to_async(int)()
            return block(SyncToAsync.context_to_thread_executor[context])

    async def by_blocked_call():
        async def inner():
            return block(AsyncToSync.executors.current)

        return await sync_to_async(async_to_sync(inner))()

    main = by_context if by == "context" else by_blocked_call
    assert asyncio.run(asyncio.wait_for(main(), SOON)) == 4
    assert_all_works()


def test_the_executor_of_a_single_thread_context_can_be_read_and_set():
    executors = AsyncToSync.context_to_thread_executor
    with AsyncSingleThreadContext() as block:
        assert executors.get(block) is None
        first = async_to_sync(_thread)()
        assert block in executors
        assert executors[block].submit(threading.get_ident).result(SOON) == first
    assert block not in executors

    with ThreadPoolExecutor(1) as executor:
        expected = executor.submit(threading.get_ident).result(SOON)
        with AsyncSingleThreadContext() as block:
            executors[block] = executor
            assert async_to_sync(_thread)() == expected
            assert async_to_sync(_thread)() == expected


def test_an_executor_that_was_given_to_a_single_thread_context_ends_with_the_block():
    with AsyncSingleThreadContext() as block:
        executor = AsyncToSync.context_to_thread_executor[block] = ThreadPoolExecutor(1)
        thread = executor.submit(threading.current_thread).result(SOON)
        assert async_to_sync(_thread)() == thread.ident
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)
    assert not thread.is_alive()


async def _thread():
    await asyncio.sleep(0)
    return threading.get_ident()


def test_the_executor_of_a_loop_is_listed_while_its_call_runs():
    async def main():
        loop = asyncio.get_running_loop()
        listed = AsyncToSync.loop_thread_executors[loop]
        ident = await loop.run_in_executor(listed, threading.get_ident)
        return loop, ident

    loop, ident = async_to_sync(main)()
    assert ident == threading.get_ident()
    assert loop not in AsyncToSync.loop_thread_executors


def test_an_executor_that_is_assigned_to_a_loop_runs_its_sensitive_functions():
    async def main():
        loop = asyncio.get_running_loop()
        AsyncToSync.loop_thread_executors[loop] = executor
        try:
            found = await sync_to_async(threading.get_ident)()
        finally:
            del AsyncToSync.loop_thread_executors[loop]
        return found, await sync_to_async(threading.get_ident)()

    with ThreadPoolExecutor(1) as executor:
        expected = executor.submit(threading.get_ident).result(SOON)
        found, afterwards = asyncio.run(main())
    assert found == expected != afterwards


def test_the_mapping_of_loops_can_be_replaced(monkeypatch):
    """Test suites do this to inspect or isolate the executors in use."""
    monkeypatch.setattr(AsyncToSync, "loop_thread_executors", {})
    assert_all_works()

    async def main():
        return await sync_to_async(threading.get_ident)()

    assert async_to_sync(main)() == threading.get_ident()


def test_the_class_attributes_have_the_types_that_integrations_use():
    assert isinstance(SyncToAsync.thread_sensitive_context, contextvars.ContextVar)
    assert isinstance(SyncToAsync.deadlock_context, contextvars.ContextVar)
    assert isinstance(AsyncToSync.async_single_thread_context, contextvars.ContextVar)
    assert callable(SyncToAsync.single_thread_executor.submit)
    for mapping in (
        SyncToAsync.context_to_thread_executor,
        AsyncToSync.context_to_thread_executor,
        AsyncToSync.loop_thread_executors,
    ):
        assert len(mapping) == len(list(mapping)) == len(list(mapping.items()))


def test_the_contexts_that_have_an_executor_are_listed():
    async def main():
        async with ThreadSensitiveContext() as context:
            await sync_to_async(int)()
            executors = SyncToAsync.context_to_thread_executor
            assert context in list(executors)
            ident = await sync_to_async(threading.get_ident)()
            assert executors[context].submit(threading.get_ident).result(SOON) == ident
            listed = len(executors)
        assert context not in list(executors)
        assert len(executors) == listed - 1

    asyncio.run(main())
