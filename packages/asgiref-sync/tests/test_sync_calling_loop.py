"""The event loop that called a synchronous function, and coroutines started on it."""

import asyncio
import contextvars
import threading

import pytest
from probes import SOON

from asgiref.sync import async_to_sync, calling_loop, start_on_calling_loop, sync_to_async

pytestmark = pytest.mark.timeout(20, method="thread")

variable = contextvars.ContextVar("variable", default="unset")


async def value_and_thread():
    return variable.get(), threading.current_thread()


def test_plain_code_has_no_calling_loop():
    assert calling_loop() is None
    coroutine = value_and_thread()
    with pytest.raises(RuntimeError, match="async_to_sync"):
        start_on_calling_loop(coroutine)


@pytest.mark.parametrize("thread_sensitive", [True, False])
def test_a_function_finds_the_loop_that_called_it(thread_sensitive):
    async def main():
        found = await sync_to_async(calling_loop, thread_sensitive=thread_sensitive)()
        return found is asyncio.get_running_loop()

    assert asyncio.run(main())
    assert calling_loop() is None


def test_a_nested_function_finds_the_innermost_loop():
    async def inner():
        return await sync_to_async(calling_loop)() is asyncio.get_running_loop()

    def work():
        return calling_loop(), async_to_sync(inner, force_new_loop=True)(), calling_loop()

    async def main():
        before, is_inner, after = await sync_to_async(work)()
        return before is after is asyncio.get_running_loop() and is_inner

    assert asyncio.run(main())


def test_a_started_coroutine_runs_on_the_loop_with_the_functions_context():
    def work():
        variable.set("of the function")
        future = start_on_calling_loop(value_and_thread())
        variable.set("later")
        return future

    async def main():
        future = await sync_to_async(work)()
        return await asyncio.wrap_future(future)

    assert asyncio.run(main()) == ("of the function", threading.current_thread())


def test_the_function_does_not_wait_for_the_coroutine():
    async def main():
        go_on = asyncio.Event()

        async def waits():
            await go_on.wait()
            return "done"

        future = await sync_to_async(lambda: start_on_calling_loop(waits()))()
        assert not future.done()
        go_on.set()
        return await asyncio.wrap_future(future)

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == "done"


def test_cancelling_the_future_cancels_the_task():
    async def main():
        cancelled, started = asyncio.Event(), asyncio.Event()

        async def waits():
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        future = await sync_to_async(lambda: start_on_calling_loop(waits()))()
        await started.wait()
        future.cancel()
        await cancelled.wait()

    asyncio.run(asyncio.wait_for(main(), SOON))


def test_a_loop_that_is_closed_meanwhile_is_an_error():
    abandoned, closed, outcome = threading.Event(), threading.Event(), []

    def work():
        abandoned.set()
        assert closed.wait(SOON)
        try:
            start_on_calling_loop(value_and_thread())
        except RuntimeError as error:
            outcome.append(str(error))

    async def main():
        task = asyncio.create_task(sync_to_async(work)())
        await asyncio.to_thread(abandoned.wait, SOON)
        task.cancel()

    asyncio.run(main())
    closed.set()
    asyncio.run(sync_to_async(int)())
    assert outcome == ["Event loop is closed"]
