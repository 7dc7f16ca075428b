"""Iteration in both directions."""

import asyncio
import contextlib
import contextvars
import threading

import pytest
from probes import SOON, eventually

from asgiref.sync import async_to_sync, async_to_sync_iterator, sync_to_async
from asgiref.sync import sync_to_async_iterator as to_async

pytestmark = pytest.mark.timeout(20, method="thread")

variable = contextvars.ContextVar("variable", default="unset")


class Recorder:
    """A generator that records the threads on which it runs."""

    def __init__(self):
        self.threads = []
        self.closed_on = None

    def items(self, count=3, error=None):
        try:
            for number in range(count):
                self.threads.append(threading.current_thread())
                yield number
            if error is not None:
                raise error
        finally:
            self.closed_on = threading.current_thread()


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("sensitive", [True, False])
def test_all_items_arrive_in_order(batch, sensitive):
    async def main():
        steps = to_async(range(5), batch=batch, thread_sensitive=sensitive)
        return [item async for item in steps]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_every_step_and_the_close_run_on_the_sensitive_thread():
    recorder = Recorder()

    async def main():
        async with contextlib.aclosing(to_async(recorder.items())) as steps:
            async for _ in steps:
                break
        return await sync_to_async(threading.current_thread)()

    thread = asyncio.run(main())
    assert recorder.threads == [thread]
    assert recorder.closed_on is thread


def test_an_abandoned_generator_is_closed_by_the_loop():
    recorder = Recorder()

    async def main():
        async for _ in to_async(recorder.items()):
            break

    asyncio.run(main())
    assert eventually(lambda: recorder.closed_on is recorder.threads[0])


def test_an_iterator_that_is_not_a_generator_is_not_closed():
    class Rows:
        closed = False

        def __iter__(self):
            return iter((1, 2))

        def close(self):
            self.closed = True

    rows = Rows()

    async def main():
        return [row async for row in to_async(rows)]

    assert asyncio.run(main()) == [1, 2]
    assert not rows.closed


def test_items_before_an_error_arrive_before_it():
    seen = []

    async def main():
        async for item in to_async(Recorder().items(3, LookupError("broke")), batch=10):
            seen.append(item)

    with pytest.raises(LookupError, match="broke"):
        asyncio.run(main())
    assert seen == [0, 1, 2]


def test_changes_to_context_variables_arrive_with_each_step():
    def changes():
        for number in range(2):
            variable.set(f"set in step {number}")
            yield number

    async def main():
        return [variable.get() async for _ in to_async(changes())]

    assert contextvars.Context().run(asyncio.run, main()) == ["set in step 0", "set in step 1"]


@pytest.mark.parametrize("sensitive", [True, False])
def test_a_cancelled_step_ends_before_the_generator_is_closed(sensitive):
    started, release = threading.Event(), threading.Event()
    events = []

    def blocks():
        try:
            started.set()
            release.wait(30)
            events.append("step")
            yield 1
        finally:
            events.append("close")

    async def main():
        async def iterate():
            async for _ in to_async(blocks(), thread_sensitive=sensitive):
                pass

        task = asyncio.create_task(iterate())
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        asyncio.get_running_loop().call_soon(release.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert eventually(lambda: events == ["step", "close"])


@pytest.mark.parametrize("sensitive", [True, False])
def test_a_cancellation_is_raised_before_the_items_of_its_batch(sensitive):
    """A consumer that stops at the first item would never see it."""
    waits = threading.Event()

    async def wait():
        waits.set()
        await asyncio.Event().wait()

    def source():
        yield 1
        async_to_sync(wait)()
        yield 2

    async def first():
        async for item in to_async(source(), batch=3, thread_sensitive=sensitive):
            return item

    async def main():
        task = asyncio.create_task(first())
        assert await asyncio.to_thread(waits.wait, SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_batch_of_zero_items_is_refused():
    async def main():
        with pytest.raises(ValueError, match="batch must be a positive number of items, not 0"):
            await anext(to_async([], batch=0))

    asyncio.run(main())


def test_an_object_that_is_not_iterable_is_refused():
    async def main():
        with pytest.raises(TypeError, match="not iterable"):
            await anext(to_async(5))

    asyncio.run(main())


class AsyncRecorder:
    def __init__(self):
        self.loops = []
        self.closed_on = None

    async def items(self, error=None):
        try:
            for number in range(3):
                await asyncio.sleep(0)
                self.loops.append(asyncio.get_running_loop())
                yield number
            if error is not None:
                raise error
        finally:
            self.closed_on = asyncio.get_running_loop()


def test_async_items_arrive_and_every_step_runs_on_one_loop():
    recorder = AsyncRecorder()
    assert list(async_to_sync_iterator(recorder.items())) == [0, 1, 2]
    assert len(set(recorder.loops)) == 1
    assert recorder.closed_on is recorder.loops[0]
    assert recorder.loops[0].is_closed()


def test_a_break_closes_an_async_generator_on_its_loop():
    recorder = AsyncRecorder()
    steps = async_to_sync_iterator(recorder.items())
    assert next(steps) == 0
    steps.close()
    assert recorder.closed_on is recorder.loops[0]


def test_an_error_from_an_async_generator_is_raised():
    steps = async_to_sync_iterator(AsyncRecorder().items(LookupError("broke")))
    with pytest.raises(LookupError, match="broke"):
        list(steps)


def test_inside_async_code_the_steps_run_on_its_loop():
    recorder = AsyncRecorder()

    async def main():
        items = await sync_to_async(lambda: list(async_to_sync_iterator(recorder.items())))()
        return items, set(recorder.loops) == {asyncio.get_running_loop()}

    assert asyncio.run(main()) == ([0, 1, 2], True)


def elsewhere(where, function, *args):
    """Return a coroutine that calls the function on the thread that `where` names."""
    if where == "a plain thread":
        return asyncio.to_thread(function, *args)
    return sync_to_async(function)(*args)


@pytest.mark.parametrize("ends", ["to its end", "by close"])
def test_a_top_level_iteration_keeps_its_loop_inside_async_code(ends):
    recorder = AsyncRecorder()
    steps = async_to_sync_iterator(recorder.items())
    assert next(steps) == 0

    async def main():
        assert await elsewhere("below", next, steps) == 1
        if ends == "by close":
            await elsewhere("below", steps.close)
        else:
            assert await elsewhere("below", list, steps) == [2]
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert {*recorder.loops, recorder.closed_on} == {recorder.loops[0]}
    assert recorder.loops[0] is not loop


@pytest.mark.parametrize("ends", ["to its end", "by close"])
def test_an_iteration_inside_async_code_keeps_its_loop_in_a_plain_thread(ends):
    recorder = AsyncRecorder()
    source = recorder.items()
    steps = async_to_sync_iterator(source)

    async def main():
        assert await elsewhere("below", next, steps) == 0
        if ends == "by close":
            await elsewhere("a plain thread", steps.close)
        else:
            assert await elsewhere("a plain thread", list, steps) == [1, 2]
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert {*recorder.loops, recorder.closed_on} == {loop}


def test_sync_code_in_the_steps_runs_on_the_thread_that_iterates():
    async def threads():
        yield await sync_to_async(threading.current_thread)()

    assert list(async_to_sync_iterator(threads())) == [threading.current_thread()]


def test_code_between_the_steps_is_not_in_the_iterations_loop():
    async def running_loop():
        return asyncio.get_running_loop()

    recorder = AsyncRecorder()
    for _ in async_to_sync_iterator(recorder.items()):
        assert async_to_sync(running_loop)() not in recorder.loops


def test_round_trip_through_both():
    async def main():
        return [item async for item in to_async(async_to_sync_iterator(AsyncRecorder().items()))]

    assert asyncio.run(main()) == [0, 1, 2]
