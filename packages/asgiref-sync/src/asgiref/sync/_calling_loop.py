"""Access to the event loop that called the current synchronous function.

`sync_to_async` records the call in the state of its thread, and both functions read it there. The
invariant: a coroutine started here runs on the loop of the innermost call on this thread, and this
thread never waits for it.
"""

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ._contextvars import adapt_values
from ._thread_state import thread_state_at_entry

_R = TypeVar("_R")


def calling_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that called the current function through `sync_to_async`.

    Returns:
        The loop of the innermost such call on this thread, or None if there is no such call. If the
        calling task was cancelled, the loop may already be stopped or closed.

    >>> from asgiref.sync import sync_to_async
    >>> async def main():
    ...     return await sync_to_async(calling_loop)() is asyncio.get_running_loop()
    >>> asyncio.run(main())
    True
    """
    call = thread_state_at_entry().call
    return None if call is None else call.loop


def start_on_calling_loop(coroutine: Coroutine[Any, Any, _R]) -> Future[_R]:
    """Start `coroutine` as a task of the loop that called the current function, and do not wait.

    The task runs in a copy of the current context, and keeps running after the function returns.
    (Use `async_to_sync` to wait for a coroutine.) Call this from the function that the loop called,
    on the same thread.

    Args:
        coroutine: the coroutine. It is closed if it cannot be started.

    Returns:
        A `concurrent.futures.Future` of the coroutine's result. Cancelling it cancels the task. A
        thread-sensitive function must not wait for it if the coroutine needs the same thread.

    Raises:
        RuntimeError: no loop called the current function, or the loop is closed.

    >>> from asgiref.sync import sync_to_async
    >>> async def notify(name):
    ...     return f"{name} was saved"
    >>> def save(name):
    ...     return start_on_calling_loop(notify(name))
    >>> async def main():
    ...     return await asyncio.wrap_future(await sync_to_async(save)("draft"))
    >>> asyncio.run(main())
    'draft was saved'
    """
    loop = calling_loop()
    adapted = _run_adapted(coroutine, threading.current_thread())
    try:
        if loop is None:
            raise RuntimeError(
                "start_on_calling_loop only works in a function that sync_to_async called, and no "
                "event loop called this one. Use async_to_sync to run the coroutine"
            )
        # In a copy, because the thread keeps using this context.
        return contextvars.copy_context().run(asyncio.run_coroutine_threadsafe, adapted, loop)
    except BaseException:
        adapted.close()
        coroutine.close()
        raise


async def _run_adapted(coroutine: Coroutine[Any, Any, _R], sending_thread: threading.Thread) -> _R:
    adapt_values(sending_thread)
    return await coroutine
