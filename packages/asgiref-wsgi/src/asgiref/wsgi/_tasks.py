"""Starts tasks immediately, and waits for cancelled tasks.

If a tracer has wrapped `loop.create_task` or a loop overrides it, every task is created through it,
so that the tracer or the loop sees all tasks. asgiref-sync follows the same rule.
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
    """Start a task, immediately if possible, which saves a turn of the loop.

    `on_cancelled` is called if the task is cancelled before its first step.
    """
    is_started = False
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        if _has_plain_create_task(loop):
            # The same as `create_task` with the factory, in a third of the time.
            return asyncio.tasks.Task(
                coroutine, loop=loop, name=name, context=context, eager_start=True
            )
        loop.set_task_factory(_start_now)
        is_started = True
    try:
        task = loop.create_task(coroutine, name=name, context=context)
    except BaseException:
        coroutine.close()
        raise
    finally:
        if loop.get_task_factory() is _start_now:  # an overridden `create_task` did not call it
            loop.set_task_factory(None)
            is_started = False
    if not is_started and on_cancelled is not None:
        task.add_done_callback(lambda _: on_cancelled())
    return task


def _start_now(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,
    *,
    name: str | None = None,
    context: Context | None = None,
    **_: Any,  # uvloop passes more arguments
) -> asyncio.Task[Any]:
    """A task factory that starts one task immediately, and removes itself."""
    loop.set_task_factory(None)  # before the first step, which may start other tasks
    make: Any = asyncio.tasks.Task
    task: asyncio.Task[Any] = make(
        coroutine, loop=loop, name=name, context=context, eager_start=True
    )
    return task


def _has_plain_create_task(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop.create_task` is asyncio's own, as far as its code shows."""
    method: Any = loop.create_task
    if type(method) is not types.MethodType:
        return False
    function: Any = method.__func__
    # Compare the exact type, because tracers' proxies have the attributes of the wrapped object.
    return type(function) is types.FunctionType and function.__code__ is _PLAIN_CODE


def _plain_code() -> object:
    """Return the code of asyncio's `create_task`, unless a tracer replaced it before this import.

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
