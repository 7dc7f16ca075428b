"""The methods and attributes that integrations override, wrap and replace."""

import asyncio
import functools
import threading

import pytest

from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync, sync_to_async


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


def test_keywords_that_an_agent_adds_can_be_taken_out_again(monkeypatch):
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


def test_an_error_of_a_wrapper_around_main_wrap_reaches_the_caller(monkeypatch):
    async def main_wrap(self, call_result, exc_info, task_context, context, awaitable):
        awaitable.close()
        raise LookupError("the agent failed")

    monkeypatch.setattr(AsyncToSync, "main_wrap", main_wrap)

    async def nothing():
        pass

    with pytest.raises(LookupError, match="the agent failed"):
        async_to_sync(nothing)()


def test_func_is_the_wrapped_function_and_current_is_the_frame_that_waits():
    def function():
        pass

    assert sync_to_async(function).func is function

    async def frame():
        return AsyncToSync.executors.current

    assert AsyncToSync.executors.current is None
    executor = async_to_sync(frame)()
    assert callable(executor.submit)
    assert AsyncToSync.executors.current is None


def test_the_frame_that_waits_is_an_executor_for_its_thread():
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
