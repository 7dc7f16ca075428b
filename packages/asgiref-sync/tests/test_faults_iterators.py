"""A cancelled consumer does not wait, and an abandoned iterator does not block an event loop."""

import asyncio
import contextlib
import gc
import sys
import threading

import pytest
from hostile import EXCEPTIONS, Frozen
from probes import (
    DEFAULT_LIMIT,
    SOON,
    Resources,
    assert_all_works,
    assert_no_more_than,
    eventually,
    outcome,
)

from asgiref.sync import (
    ThreadSensitiveContext,
    async_to_sync,
    async_to_sync_iterator,
    sync_to_async,
    sync_to_async_iterator,
)

pytestmark = pytest.mark.timeout(20, method="thread")

each_kind = pytest.mark.parametrize("sensitive", [True, False])


class Source:
    """A generator that blocks in its first step until it is released."""

    def __init__(self):
        self.blocked = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.closed_in = None

    def _step(self):
        self.blocked.set()
        self.release.wait(SOON)
        return 1

    def generator(self):
        try:
            while True:
                yield self._step()
        finally:
            self.closed_in = threading.get_ident()
            self.closed.set()

    def iterator(self):
        return iter(self._step, None)

    def slow_to_begin(self):
        source = self

        class Iterable:
            def __iter__(self):
                source._step()
                return iter(())

        return Iterable()


SHAPES = ["generator", "iterator", "slow_to_begin"]


async def consume(iterable, sensitive):
    async for _ in sync_to_async_iterator(iterable, thread_sensitive=sensitive):
        pass


@each_kind
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["cancel", "timeout", "wait_for", "task group"])
def test_a_consumer_is_released_while_its_source_still_blocks(how, shape, sensitive):
    source = Source()

    async def fail():
        raise KeyError("sibling")

    async def in_group(*coroutines):
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)

    async def leave():
        task = asyncio.create_task(consume(getattr(source, shape)(), sensitive))
        await asyncio.to_thread(source.blocked.wait, SOON)
        if how == "cancel":
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()
        if how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await task
        elif how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.01)
        else:
            with pytest.raises(ExceptionGroup):
                await in_group(_await(task), fail())
            await asyncio.wait([task])
        # Before 3.13, a TaskGroup that exits with an error may fail to uncancel its own task.
        is_cancelling = asyncio.current_task().cancelling() and sys.version_info >= (3, 13)
        return task.cancelled() and not is_cancelling

    async def main():
        assert await asyncio.wait_for(leave(), SOON / 2)
        assert not source.release.is_set()
        assert not source.closed.is_set()
        source.release.set()
        if shape == "generator":
            # The thread that ran the step then closes the generator.
            assert await asyncio.to_thread(source.closed.wait, SOON)

    try:
        asyncio.run(main())
    finally:
        source.release.set()
    assert_all_works()


async def _await(task):
    await task


@each_kind
@pytest.mark.parametrize("end", ["break", "aclose", "error", "garbage"])
def test_an_iteration_that_ends_early_closes_its_generator_once(end, sensitive):
    closings = []

    def generator():
        try:
            yield from range(10)
        finally:
            closings.append(threading.get_ident())

    async def main():
        iterator = sync_to_async_iterator(generator(), thread_sensitive=sensitive)
        if end == "error":
            with contextlib.suppress(ValueError):
                async with contextlib.aclosing(iterator):
                    async for _ in iterator:
                        raise ValueError
        else:
            async for _ in iterator:
                break
        if end == "aclose":
            await iterator.aclose()
        del iterator
        gc.collect()
        if not await asyncio.to_thread(eventually, lambda: closings):
            raise AssertionError("never closed")
        await sync_to_async(int)()

    asyncio.run(main())
    assert len(closings) == 1
    assert closings[0] != threading.get_ident()


def test_cancelled_consumers_leave_no_thread_and_no_token_behind():
    for _ in range(2):
        assert_all_works()
    before = Resources.now()

    async def main():
        for _ in range(DEFAULT_LIMIT + 2):
            source = Source()
            task = asyncio.create_task(consume(source.generator(), False))
            await asyncio.to_thread(source.blocked.wait, SOON)
            task.cancel()
            await asyncio.wait([task])
            source.release.set()
            assert await asyncio.to_thread(source.closed.wait, SOON)

    asyncio.run(main())
    assert_all_works()
    assert_no_more_than(before, spare=2)


def test_a_cancelled_consumer_in_a_context_does_not_keep_its_thread():
    source, threads = Source(), []

    def generator():
        threads.append(threading.current_thread())
        yield from source.generator()

    async def request():
        async with ThreadSensitiveContext():
            await consume(generator(), True)

    async def main():
        task = asyncio.create_task(request())
        await asyncio.to_thread(source.blocked.wait, SOON)
        task.cancel()
        source.release.set()
        await asyncio.wait([task])
        assert await asyncio.to_thread(source.closed.wait, SOON)

    asyncio.run(main())
    assert eventually(lambda: not threads[0].is_alive())


def test_a_generator_is_closed_even_if_its_thread_is_busy_when_the_loop_ends(caplog):
    occupied, release, closed = (threading.Event() for _ in range(3))

    def occupy():
        occupied.set()
        release.wait(SOON)

    def generator():
        try:
            yield 1
        finally:
            closed.set()

    async def main():
        async with contextlib.aclosing(sync_to_async_iterator(generator())) as items:
            await anext(items)
            other = asyncio.create_task(sync_to_async(occupy)())
            await asyncio.to_thread(occupied.wait, SOON)
            asyncio.current_task().cancel()
        await other

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    release.set()
    assert closed.wait(SOON)
    asyncio.run(sync_to_async(int)())  # the shared thread has dropped the earlier calls
    gc.collect()
    assert caplog.records == []


@each_kind
def test_a_loop_that_ends_while_a_step_runs_still_closes_the_generator(sensitive):
    source = Source()

    async def main():
        task = asyncio.create_task(consume(source.generator(), sensitive))
        await asyncio.to_thread(source.blocked.wait, SOON)
        return task.get_name()

    asyncio.run(main())
    source.release.set()
    assert source.closed.wait(SOON)
    assert_all_works()


@each_kind
@pytest.mark.parametrize("make", EXCEPTIONS.values(), ids=list(EXCEPTIONS))
def test_a_sources_exception_reaches_the_consumer_after_its_items(make, sensitive):
    error, seen = make(), []

    def generator():
        yield 1
        raise error

    async def main():
        try:
            async for item in sync_to_async_iterator(generator(), thread_sensitive=sensitive):
                seen.append(item)
        except BaseException as raised:
            return raised

    raised = asyncio.run(main())
    assert seen == [1]
    assert raised is error or type(error) in (StopAsyncIteration, GeneratorExit)


@pytest.mark.parametrize("make", EXCEPTIONS.values(), ids=list(EXCEPTIONS))
def test_an_asynchronous_sources_exception_reaches_the_thread(make):
    error, seen = make(), []

    async def generator():
        yield 1
        raise error

    def iterate():
        for item in async_to_sync_iterator(generator()):
            seen.append(item)

    raised = outcome(iterate)
    below = asyncio.run(sync_to_async(outcome)(iterate))
    assert seen == [1, 1]
    if type(error) is asyncio.CancelledError:
        assert type(raised) is type(below) is asyncio.CancelledError
    elif type(error) not in (StopAsyncIteration, GeneratorExit):
        assert raised is error
        assert below is error


def test_a_generator_whose_close_raises_breaks_nothing(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def generator():
        try:
            yield 1
        finally:
            raise Frozen("closing")

    async def main():
        async with contextlib.aclosing(sync_to_async_iterator(generator())) as iterator:
            async for _ in iterator:
                break

    assert type(outcome(asyncio.run, main())) is Frozen
    assert_all_works()


async def _endless(closed):
    try:
        while True:
            yield 1
            await asyncio.sleep(0)
    finally:
        closed.set()


def test_an_abandoned_iterator_that_dies_on_a_loop_does_not_block_it():
    """The garbage collector closes it in the current thread, which may run a loop."""
    closed = threading.Event()

    def abandon():
        iterator = async_to_sync_iterator(_endless(closed))
        next(iterator)
        holder = [iterator]
        holder.append(holder)  # a cycle, so only the garbage collector finds it

    async def main():
        await sync_to_async(abandon)()
        gc.collect()
        assert await asyncio.to_thread(closed.wait, SOON)
        return await sync_to_async(int)("1")

    gc.disable()
    try:
        assert asyncio.run(asyncio.wait_for(main(), SOON)) == 1
    finally:
        gc.enable()
    assert_all_works()


@pytest.mark.parametrize("steps", [0, 1])
def test_a_top_level_iterator_that_dies_on_a_loop_does_not_block_it(steps):
    for _ in range(2):
        assert_all_works()
    before = Resources.now()
    closed = threading.Event()
    holder = [async_to_sync_iterator(_endless(closed))]
    for _ in range(steps):
        next(holder[0])

    async def main():
        turns = []
        ticking = asyncio.create_task(_tick(turns))
        holder.clear()
        gc.collect()
        if steps:
            assert await asyncio.to_thread(closed.wait, SOON)
        await asyncio.sleep(0.001)
        ticking.cancel()
        return len(turns)

    assert asyncio.run(asyncio.wait_for(main(), SOON)) > 0
    assert_all_works()
    assert_no_more_than(before, spare=2)


async def _tick(turns):
    while True:
        turns.append(1)
        await asyncio.sleep(0)


def test_an_iterator_whose_source_never_finishes_closing_blocks_no_loop():
    release = threading.Event()

    async def stubborn():
        try:
            while True:
                yield 1
        finally:
            while not release.is_set():  # noqa: ASYNC110 (a thread sets it)
                await asyncio.sleep(0.001)

    holder = [async_to_sync_iterator(stubborn())]
    next(holder[0])

    async def main():
        holder.clear()
        gc.collect()
        await asyncio.sleep(0.001)
        return "free"

    try:
        assert asyncio.run(main()) == "free"
    finally:
        release.set()
    assert_all_works()


def test_an_iterator_that_was_interrupted_can_be_closed():
    closed = threading.Event()

    async def source():
        try:
            yield 1
            raise KeyboardInterrupt
        finally:
            closed.set()

    iterator = async_to_sync_iterator(source())
    assert next(iterator) == 1
    assert type(outcome(next, iterator)) is KeyboardInterrupt
    iterator.close()
    assert closed.is_set()
    assert async_to_sync(asyncio.sleep)(0, "works") == "works"
