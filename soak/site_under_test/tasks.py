"""Tasks that are cancelled during a call across the bridge, at every possible point."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from asgiref.sync import ThreadEvent, ThreadSensitiveContext, async_to_sync, sync_to_async

from .marks import check_mark

#: Longer than any step here takes; a call that reaches this limit fails.
LIMIT_SECONDS = 30.0


async def cancelled_calls(mark: str) -> str:
    """Cancel one task of each kind; return the names of the kinds that ended correctly."""
    kinds: list[Callable[[str], Awaitable[bool]]] = [
        while_it_runs,
        before_its_first_step,
        while_a_coroutine_runs_below,
        by_a_timeout,
        while_it_waits_for_its_thread,
    ]
    async with ThreadSensitiveContext():
        return " ".join([kind.__name__ for kind in kinds if await kind(mark)])


async def _is_cancelled(task: asyncio.Task[object]) -> bool:
    done, _ = await asyncio.wait({task}, timeout=LIMIT_SECONDS)
    return bool(done) and task.cancelled()


async def while_it_runs(mark: str) -> bool:
    began, gate = ThreadEvent(), threading.Event()

    def wait() -> None:
        began.set()
        gate.wait(LIMIT_SECONDS)

    task = asyncio.create_task(sync_to_async(wait)())
    await began.wait()
    task.cancel()
    gate.set()
    return await _is_cancelled(task)


async def before_its_first_step(mark: str) -> bool:
    task = asyncio.create_task(sync_to_async(check_mark)(mark))
    task.cancel()
    return await _is_cancelled(task)


async def while_a_coroutine_runs_below(mark: str) -> bool:
    began = asyncio.Event()
    ended = []

    async def sleep() -> None:
        began.set()
        try:
            await asyncio.sleep(LIMIT_SECONDS)
        finally:
            ended.append(check_mark(mark))

    task = asyncio.create_task(sync_to_async(async_to_sync(sleep))())
    await began.wait()
    task.cancel()
    return await _is_cancelled(task) and ended == [mark]


async def by_a_timeout(mark: str) -> bool:
    gate = threading.Event()
    try:
        async with asyncio.timeout(0.01):
            await sync_to_async(gate.wait, thread_sensitive=False)(LIMIT_SECONDS)
    except TimeoutError:
        return True
    finally:
        gate.set()
    return False


async def while_it_waits_for_its_thread(mark: str) -> bool:
    """Cancel a second call while it waits behind the first one: it must never run."""
    began, gate = ThreadEvent(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        began.set()
        gate.wait(LIMIT_SECONDS)

    ahead = asyncio.create_task(sync_to_async(first)())
    await began.wait()
    behind = asyncio.create_task(sync_to_async(ran.append)(mark))
    await asyncio.sleep(0)
    behind.cancel()
    # The cancellation arrives at the task's next step, so keep the thread busy until then.
    cancelled = await _is_cancelled(behind)
    gate.set()
    await ahead
    await sync_to_async(check_mark)(mark)
    return cancelled and not ran


async def cancel_own_task(mark: str) -> None:
    """Cancel the task of this request, inside a call across the bridge."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def cancel_from_the_thread() -> None:
        check_mark(mark)
        loop.call_soon_threadsafe(task.cancel)

    await sync_to_async(cancel_from_the_thread)()
    await sync_to_async(threading.Event().wait)(0.05)
    await asyncio.sleep(LIMIT_SECONDS)
