"""Starts tasks at once, and waits for cancelled tasks.

`loop.create_task` makes every task if a tracer has wrapped it or a loop overrides it, so that these
see all tasks. asgiref-sync keeps the same rule.
"""

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
    name: str,
    context: Context | None = None,
    on_cancelled: Callable[[], None] | None = None,
) -> asyncio.Task[None]:
    """Start a task, at once if possible, which saves a turn of the loop.

    `on_cancelled` is called if the task is cancelled before its first step.
    """
    is_eager = sys.version_info >= (3, 12) and loop.get_task_factory() is None
    if is_eager and _has_plain_create_task(loop):
        # What `create_task` and the factory would do, in a third of the time.
        return _start_now(loop, coroutine, name=name, context=context)
    is_started = False
    if is_eager:
        loop.set_task_factory(_start_now)
    try:
        task = loop.create_task(coroutine, name=name, context=context)
    finally:
        if is_eager:
            # The factory has removed itself, unless an overridden `create_task` did not call it.
            is_started = loop.get_task_factory() is not _start_now
            loop.set_task_factory(None)
    if not is_started and on_cancelled is not None:
        task.add_done_callback(lambda _: on_cancelled())
    return task


def _start_now(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,
    *,
    name: str | None = None,
    context: Context | None = None,
    **_: Any,  # uvloop passes more
) -> asyncio.Task[Any]:
    """A task factory that starts one task at once, and removes itself."""
    if loop.get_task_factory() is not None:
        loop.set_task_factory(None)  # before the first step, which may start other tasks
    assert sys.version_info >= (3, 12)
    return asyncio.tasks.Task(coroutine, loop=loop, name=name, context=context, eager_start=True)


def _has_plain_create_task(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop.create_task` is asyncio's own, as far as its code shows."""
    function: Any = type(loop).create_task
    return getattr(function, "__code__", None) is _PLAIN_CODE and "create_task" not in vars(loop)


def _plain_code() -> object:
    """The code of asyncio's `create_task`, unless a tracer replaced it before this import.

    A replacement comes from another file, or has the tracer's objects among its constants.
    """
    code = getattr(asyncio.BaseEventLoop.create_task, "__code__", None)
    plain = (str, bytes, int, float, tuple, type(None), types.CodeType)
    if (
        isinstance(code, types.CodeType)
        and code.co_filename == asyncio.base_events.__file__
        and all(isinstance(constant, plain) for constant in code.co_consts)
    ):
        return code
    return object()


_PLAIN_CODE = _plain_code()


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Let the loop's other tasks run, like `asyncio.sleep(0)` but without its coroutine."""
    yield


async def wait_for_end(task: asyncio.Task[None]) -> None:
    """Wait for a cancelled task, without raising its exception."""
    await next_turn()  # enough for most tasks, at half the cost of `asyncio.wait`
    if not task.done():
        await asyncio.wait([task])
