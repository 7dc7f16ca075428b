"""Starts tasks at once, and waits for cancelled tasks."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any


def start_task(
    coroutine: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop,
    context: Context | None = None,
    on_cancelled: Callable[[], None] | None = None,
) -> asyncio.Task[None]:
    """Start a task, at once if possible, which saves a turn of the loop.

    `on_cancelled` is called if the task is cancelled before its first step.
    """
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
    task = loop.create_task(coroutine, context=context)
    if on_cancelled is not None:
        task.add_done_callback(lambda _: on_cancelled())
    return task


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Let the loop's other tasks run, like `asyncio.sleep(0)` but without its coroutine."""
    yield


async def wait_for_end(task: asyncio.Task[None]) -> None:
    """Wait for a cancelled task, without raising its exception."""
    await next_turn()  # enough for most tasks, at half the cost of `asyncio.wait`
    if not task.done():
        await asyncio.wait([task])
