"""Contexts that reuse threads, together with the objects bound to them."""

import asyncio
import threading

import pytest
from probes import SOON, eventually

from asgiref.sync import ThreadSensitiveContext, sync_to_async

pytestmark = pytest.mark.timeout(20, method="thread")

thread = sync_to_async(threading.current_thread)

DEFAULT_MAXIMUM = ThreadSensitiveContext.max_idle_threads


@pytest.fixture(autouse=True)
def _no_idle_threads(monkeypatch):
    """Stop the threads that a test leaves behind."""
    yield
    monkeypatch.setattr(ThreadSensitiveContext, "max_idle_threads", 0)

    async def drain():
        for _ in range(DEFAULT_MAXIMUM):
            await in_context(reuse_thread=True)

    monkeypatch.setattr(ThreadSensitiveContext, "reuse_threads", False)
    asyncio.run(drain())


async def in_context(**options):
    async with ThreadSensitiveContext(**options):
        return await thread()


def test_by_default_each_context_has_a_new_thread():
    async def main():
        return await in_context() is await in_context()

    assert not asyncio.run(main())


def test_a_context_can_take_the_thread_of_an_earlier_one():
    async def main():
        first = await in_context(reuse_thread=True)
        return first, await in_context(reuse_thread=True), await in_context()

    first, second, new = asyncio.run(main())
    assert first is second
    assert new is not first


def test_the_process_can_have_all_contexts_reuse_threads(monkeypatch):
    monkeypatch.setattr(ThreadSensitiveContext, "reuse_threads", True)

    async def main():
        first = await in_context()
        return first, await in_context(), await in_context(reuse_thread=False)

    first, second, new = asyncio.run(main())
    assert first is second
    assert new is not first


def test_thread_local_values_stay_with_a_reused_thread():
    local = threading.local()

    def count():
        local.count = getattr(local, "count", 0) + 1
        return local.count

    async def request():
        async with ThreadSensitiveContext(reuse_thread=True):
            return await sync_to_async(count)()

    async def main():
        return [await request() for _ in range(3)]

    assert asyncio.run(main()) == [1, 2, 3]


def test_concurrent_contexts_have_their_own_threads():
    async def main():
        inside = asyncio.Barrier(3)

        async def request():
            async with ThreadSensitiveContext(reuse_thread=True):
                found = await thread()
                await inside.wait()
                assert await thread() is found
                return found

        first = await asyncio.gather(*[request() for _ in range(3)])
        second = await asyncio.gather(*[request() for _ in range(3)])
        return first, second

    first, second = asyncio.run(asyncio.wait_for(main(), SOON))
    assert len(set(first)) == 3
    assert set(first) == set(second)


def test_no_more_idle_threads_are_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(ThreadSensitiveContext, "max_idle_threads", 2)

    async def main():
        inside = asyncio.Barrier(5)

        async def request():
            async with ThreadSensitiveContext(reuse_thread=True):
                found = await thread()
                await inside.wait()
                return found

        return await asyncio.gather(*[request() for _ in range(5)])

    threads = asyncio.run(asyncio.wait_for(main(), SOON))
    assert eventually(lambda: sum(one.is_alive() for one in threads) == 2)


def test_a_thread_that_is_still_running_a_call_is_not_reused():
    release, running = threading.Event(), threading.Event()

    def work():
        running.set()
        assert release.wait(SOON)

    async def abandoned():
        async with ThreadSensitiveContext(reuse_thread=True):
            found = await thread()
            task = asyncio.create_task(sync_to_async(work)())
            await asyncio.to_thread(running.wait, SOON)
            task.cancel()
            return found

    async def main():
        leaving = asyncio.create_task(abandoned())
        await asyncio.to_thread(running.wait, SOON)
        other = await in_context(reuse_thread=True)
        release.set()
        first = await leaving
        return first, other, await in_context(reuse_thread=True)

    first, other, later = asyncio.run(asyncio.wait_for(main(), SOON))
    assert other is not first
    assert later in (first, other)


def test_a_thread_whose_call_outlasts_its_context_is_not_reused():
    """A block inside the call keeps the thread, and exits last."""
    entered, other_is_left, release = threading.Event(), threading.Event(), threading.Event()
    inner_is_left = threading.Event()

    async def inside():
        async with ThreadSensitiveContext(reuse_thread=True):
            entered.set()
            await asyncio.to_thread(other_is_left.wait, SOON)

    def work():
        asyncio.run(inside())
        inner_is_left.set()
        assert release.wait(SOON)
        return threading.current_thread()

    async def main():
        async with ThreadSensitiveContext(reuse_thread=True):
            task = asyncio.create_task(sync_to_async(work)())
            await asyncio.to_thread(entered.wait, SOON)
        other_is_left.set()
        assert await asyncio.to_thread(inner_is_left.wait, SOON / 2), "the block was not left"
        others = [await in_context(reuse_thread=True) for _ in range(2)]
        release.set()
        return await task, others

    first, others = asyncio.run(asyncio.wait_for(main(), SOON))
    assert first not in others


def test_a_context_inside_another_uses_its_thread():
    async def main():
        async with ThreadSensitiveContext(reuse_thread=True):
            return await thread() is await in_context(reuse_thread=True)

    assert asyncio.run(main())


def test_reuse_and_an_executor_exclude_each_other():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="executor"):
        ThreadSensitiveContext(executor=executor, reuse_thread=True)
