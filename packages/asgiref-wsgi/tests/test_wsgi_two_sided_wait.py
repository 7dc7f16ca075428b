"""A task and a thread that wait for each other, without a request."""

import asyncio
import threading
from contextlib import nullcontext

import pytest

from asgiref.wsgi._two_sided_wait import TwoSidedWait

pytestmark = pytest.mark.asyncio


def without_token(loop):
    return nullcontext()


async def test_a_wake_up_that_finds_the_task_awake_ends_its_next_wait():
    wait = TwoSidedWait(without_token)
    await asyncio.to_thread(wait.wake_task)
    assert await wait.wait_in_task() is False


async def test_a_kept_wake_up_ends_one_wait_only():
    wait = TwoSidedWait(without_token)
    wait.wake_task()
    wait.wake_task()
    await wait.wait_in_task()
    task = asyncio.create_task(wait.wait_in_task())
    await asyncio.sleep(0)
    await asyncio.to_thread(wait.wake_task)
    assert await task is True


async def test_a_cancelled_wait_can_be_repeated():
    wait = TwoSidedWait(without_token)
    task = asyncio.create_task(wait.wait_in_task())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait.wake_task()
    assert await wait.wait_in_task() is False


async def test_all_threads_that_wait_check_their_conditions():
    wait, met = TwoSidedWait(without_token), threading.Event()
    loop, waiting = asyncio.get_running_loop(), asyncio.Semaphore(0)

    def run():
        def satisfied():
            loop.call_soon_threadsafe(waiting.release)
            return met.is_set()

        wait.wait_in_thread(satisfied)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        await waiting.acquire()
    met.set()
    wait.wake_threads()
    for thread in threads:
        await asyncio.to_thread(thread.join)
