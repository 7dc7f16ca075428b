"""The event loop that called a synchronous function, for that function.

`sync_to_async` notes the call with its thread; both functions here read that. The invariant: what
is scheduled runs on the loop of the innermost call on this thread, and this thread never waits.
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
    """Return the event loop that called the current function by `sync_to_async`.

    Returns:
        The loop of the innermost such call on this thread; None if there is none. It may be
        stopped or closed by now if its task was cancelled.

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

    The task gets a copy of the current context, and runs on when the function has returned.
    (`async_to_sync` waits for a coroutine.) Call it on the thread of the function.

    Args:
        coroutine: what a coroutine function returned; closed if it cannot be started.

    Returns:
        A `concurrent.futures.Future` of its result; cancelling it cancels the task. Do not wait for
        it in a thread-sensitive function whose thread the coroutine needs.

    Raises:
        RuntimeError: no loop called this function, or the loop is closed.

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
                "start_on_calling_loop needs a function that sync_to_async called: no event loop "
                "called this one. Use async_to_sync to run the coroutine"
            )
        # In a copy, because the thread goes on to use this context.
        return contextvars.copy_context().run(asyncio.run_coroutine_threadsafe, adapted, loop)
    except BaseException:
        adapted.close()
        coroutine.close()
        raise


async def _run_adapted(coroutine: Coroutine[Any, Any, _R], sender: threading.Thread) -> _R:
    adapt_values(sender)
    return await coroutine
