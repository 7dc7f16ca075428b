"""The methods and attributes that integrations override, wrap and replace."""

import asyncio
import contextvars
import functools
import sys
import threading

import pytest
from probes import SOON, double

from asgiref.sync import (
    AsyncSingleThreadContext,
    AsyncToSync,
    SyncToAsync,
    async_to_sync,
    sync_to_async,
)

pytestmark = pytest.mark.timeout(20, method="thread")


def test_thread_handler_overridden_in_a_subclass_surrounds_the_function():
    events = []

    class Surrounded(SyncToAsync):
        def thread_handler(self, loop, exc_info, task_context, func, *args, **kwargs):
            events.append(("before", loop, threading.current_thread()))
            try:
                return super().thread_handler(loop, exc_info, task_context, func, *args, **kwargs)
            finally:
                events.append("after")

    async def main():
        def function(value):
            events.append(threading.current_thread())
            return value

        result = await Surrounded(function)(5)
        return result, asyncio.get_running_loop()

    result, loop = asyncio.run(main())
    assert result == 5
    assert events == [("before", loop, events[1]), events[1], "after"]
    assert events[1] is not threading.current_thread()


def test_thread_handler_wrapped_on_the_class_sees_wrappers_made_before(monkeypatch):
    wrapper = sync_to_async(int)
    original = SyncToAsync.thread_handler
    children = []

    def wrapped(self, loop, exc_info, task_context, func, child):
        children.append(child)
        return original(self, loop, exc_info, task_context, func, child)

    monkeypatch.setattr(SyncToAsync, "thread_handler", wrapped)
    assert asyncio.run(wrapper("7")) == 7
    assert [type(child) for child in children] == [functools.partial]
    assert children[0].func is int
    assert children[0].args == ("7",)


def test_keywords_that_an_agent_adds_can_be_removed_again(monkeypatch):
    original_call, original_handler = SyncToAsync.__call__, SyncToAsync.thread_handler
    found = []

    async def call(self, *args, **kwargs):
        return await original_call(self, *args, _agent="trace", **kwargs)

    def handler(self, loop, exc_info, task_context, func, child):
        found.append(child.keywords.pop("_agent"))
        return original_handler(self, loop, exc_info, task_context, func, child)

    monkeypatch.setattr(SyncToAsync, "__call__", call)
    monkeypatch.setattr(SyncToAsync, "thread_handler", handler)

    class Methods:
        @sync_to_async
        def method(self, value):
            return value

    assert asyncio.run(sync_to_async(lambda value: value)(3)) == 3
    assert asyncio.run(Methods().method(4)) == 4
    assert found == ["trace", "trace"]


def test_a_hooked_call_still_bridges_back_and_shows_the_handled_exception(monkeypatch):
    class Hooked(SyncToAsync):
        def thread_handler(self, loop, exc_info, task_context, func, *args, **kwargs):
            return super().thread_handler(loop, exc_info, task_context, func, *args, **kwargs)

    async def main():
        async def running_loop():
            return asyncio.get_running_loop()

        def work():
            import sys

            return sys.exc_info()[1], async_to_sync(running_loop)()

        try:
            raise ValueError("handled")
        except ValueError as error:
            seen, loop = await Hooked(work)()
            return seen is error and loop is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_main_wrap_is_called_on_the_calling_thread_and_awaited_on_the_loop(monkeypatch):
    original = AsyncToSync.main_wrap
    called, awaited = [], []

    def main_wrap(self, *args, **kwargs):
        called.append(threading.current_thread())
        awaitable = original(self, *args, **kwargs)

        async def wrapped():
            awaited.append(threading.current_thread())
            return await awaitable

        return wrapped()

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)

    async def thread():
        return threading.current_thread()

    loop_thread = async_to_sync(thread)()
    assert called == [threading.current_thread()]
    assert awaited == [loop_thread]


def test_an_error_from_a_wrapper_around_main_wrap_reaches_the_caller(monkeypatch):
    async def main_wrap(self, call_result, exc_info, task_context, context, awaitable):
        awaitable.close()
        raise LookupError("the agent failed")

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)

    async def nothing():
        pass

    with pytest.raises(LookupError, match="the agent failed"):
        async_to_sync(nothing)()


def test_a_hooks_work_after_the_outcome_is_finished_when_the_call_returns(monkeypatch):
    """A tracer that sends its records does this; its code may need the blocked thread."""
    original = AsyncToSync.main_wrap
    flushed_on = []

    async def main_wrap(self, *args):
        await original(self, *args)
        await asyncio.sleep(0)
        await sync_to_async(lambda: flushed_on.append(threading.current_thread()))()

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)
    assert async_to_sync(double)(1) == 2
    assert flushed_on == [threading.current_thread()]


def test_a_hook_may_have_another_thread_set_the_outcome(monkeypatch):
    finished = []

    async def main_wrap(self, call_result, exc_info, task_context, context, awaitable):
        await asyncio.to_thread(call_result.set_result, await awaitable)
        for _ in range(10):
            await asyncio.sleep(0)
        finished.append(True)

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)
    assert async_to_sync(double)(1) == 2
    assert finished == [True]


def test_an_error_from_a_hook_after_the_outcome_is_raised_in_the_caller(monkeypatch):
    original = AsyncToSync.main_wrap

    async def main_wrap(self, *args):
        await original(self, *args)
        raise LookupError("the agent failed")

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)
    with pytest.raises(LookupError, match="the agent failed"):
        async_to_sync(double)(1)


class PlainAwaitable:
    """Awaitable, but not a coroutine, like the proxies of some agents."""

    def __init__(self, coroutine):
        self._coroutine = coroutine

    def __await__(self):
        return self._coroutine.__await__()


@pytest.mark.parametrize("where", ["top level", "context", "inside sync_to_async"])
def test_a_hook_may_return_any_awaitable(monkeypatch, where):
    original = AsyncToSync.main_wrap

    def main_wrap(self, *args):
        return PlainAwaitable(original(self, *args))

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)
    if where == "inside sync_to_async":
        below = asyncio.wait_for(sync_to_async(async_to_sync(double))(1), SOON)
        assert asyncio.run(below) == 2
    elif where == "context":
        with AsyncSingleThreadContext():
            assert async_to_sync(double)(1) == 2
    else:
        assert async_to_sync(double)(1) == 2


def test_a_hook_can_read_the_result():
    seen = []

    class Reads(AsyncToSync):
        async def main_wrap(self, call_result, *args):
            seen.append(call_result.done())
            await super().main_wrap(call_result, *args)
            seen.extend([call_result.done(), call_result.cancelled()])
            seen.extend([call_result.exception(), call_result.result()])

    assert Reads(double)(1) == 2
    assert seen == [False, True, False, None, 2]


@pytest.mark.parametrize("error", [LookupError("broke"), asyncio.CancelledError()])
def test_a_hook_can_read_the_exception(error):
    seen = []

    class Reads(AsyncToSync):
        async def main_wrap(self, call_result, *args):
            await super().main_wrap(call_result, *args)
            seen.extend([call_result.done(), call_result.cancelled(), call_result.exception()])
            with pytest.raises(type(error)):
                call_result.result()

    async def fails():
        raise error

    with pytest.raises(type(error)):
        Reads(fails)()
    assert seen == [True, type(error) is asyncio.CancelledError, error]


def test_a_subclass_may_run_thread_handler_on_a_thread_of_its_own():
    """asgiref's `__call__` does this: coroutines called in it still run on the caller's loop."""

    class Own(SyncToAsync):
        async def __call__(self, *args, **kwargs):
            loop = asyncio.get_running_loop()
            child = functools.partial(self.func, *args, **kwargs)
            context = contextvars.copy_context()
            return await loop.run_in_executor(
                None, self.thread_handler, loop, sys.exc_info(), [], context.run, child
            )

    async def running_loop():
        return asyncio.get_running_loop()

    async def main():
        return await Own(async_to_sync(running_loop))() is asyncio.get_running_loop()

    assert asyncio.run(main())


@pytest.mark.parametrize("force_new_loop", [False, True])
def test_thread_handler_can_see_the_task_that_its_function_waits_for(force_new_loop):
    """asgiref's own `__call__` does this in order to cancel the task."""
    tasks = []

    class Sees(SyncToAsync):
        def thread_handler(self, loop, exc_info, task_context, func, *args, **kwargs):
            tasks.append(task_context)
            return super().thread_handler(loop, exc_info, task_context, func, *args, **kwargs)

    async def is_seen():
        await asyncio.sleep(0)
        return tasks == [[asyncio.current_task()]]

    call = async_to_sync(is_seen, force_new_loop=force_new_loop)
    assert asyncio.run(Sees(call)())
    assert tasks == [[]]
    assert not async_to_sync(is_seen)()


def test_func_is_the_wrapped_function_and_current_is_the_blocked_call():
    def function():
        pass

    assert sync_to_async(function).func is function

    async def frame():
        return AsyncToSync.executors.current

    assert AsyncToSync.executors.current is None
    executor = async_to_sync(frame)()
    assert callable(executor.submit)
    assert AsyncToSync.executors.current is None


def test_a_blocked_call_is_an_executor_for_its_thread():
    async def main():
        executor = AsyncToSync.executors.current
        return await asyncio.wrap_future(executor.submit(threading.current_thread))

    assert async_to_sync(main)() is threading.current_thread()


def test_an_executor_whose_thread_has_left_refuses():
    async def frame():
        return AsyncToSync.executors.current

    executor = async_to_sync(frame)()
    with pytest.raises(RuntimeError, match="own thread"):
        executor.submit(int)
    refused = []

    def submit():
        try:
            executor.submit(int)
        except RuntimeError as error:
            refused.append(str(error))

    thread = threading.Thread(target=submit)
    thread.start()
    thread.join(30)
    assert "already quit" in refused[0]
