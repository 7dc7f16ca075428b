"""`ThreadEvent`: a thread wakes a task."""

import asyncio
import threading

import pytest

from asgiref.sync import ThreadEvent

pytestmark = pytest.mark.asyncio


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


async def test_a_thread_wakes_the_task_that_waits():
    signal = ThreadEvent()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    in_thread(signal.set).join()
    await waiting


async def test_an_event_set_before_the_wait_is_kept_and_used_once():
    signal = ThreadEvent()
    in_thread(lambda: [signal.set(), signal.set()]).join()
    await signal.wait()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    signal.set()
    await waiting


async def test_none_of_many_signals_is_missed():
    there, back = ThreadEvent(), threading.Semaphore(0)
    count = 2000

    def ring():
        for _ in range(count):
            there.set()
            assert back.acquire(timeout=20)

    thread = in_thread(ring)
    for _ in range(count):
        await there.wait()
        back.release()
    thread.join()
    assert not back.acquire(blocking=False)


async def test_a_wait_can_be_cancelled_and_restarted():
    signal = ThreadEvent()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    in_thread(signal.set).join()
    await signal.wait()


async def test_two_tasks_cannot_wait_at_once():
    signal = ThreadEvent()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await signal.wait()
    signal.set()
    await waiting


async def test_a_signal_to_a_closed_loop_is_an_error():
    signals = []

    async def make():
        signals.append(ThreadEvent())

    thread = in_thread(lambda: asyncio.run(make()))
    thread.join()
    with pytest.raises(RuntimeError, match="closed"):
        signals[0].set()
