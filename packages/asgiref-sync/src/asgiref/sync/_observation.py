"""Tell an observer when each call across the bridge starts and finishes.

The wrappers ask for `observer` once for each call; without one, that is all it costs. The
invariant: an observer sees each call that starts twice, and cannot change what becomes of it.
"""

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeVar

from ._calls import FunctionCall
from ._thread_pool import all_workers
from ._thread_state import thread_state

_R = TypeVar("_R")

logger = logging.getLogger("asgiref.sync")


class CallEvent(NamedTuple):
    """A call across the bridge has started or finished."""

    #: Whether the call starts or has finished.
    kind: Literal["started", "finished"]
    #: The wrapper that made the call.
    way: Literal["sync_to_async", "async_to_sync"]
    #: The function or coroutine function that was called.
    function: Callable[..., Any]
    #: The thread that runs the function, or the event loop of the coroutine.
    thread: threading.Thread
    #: Seconds between the call and its start.
    waited: float
    #: How many other functions wait for the same thread, or for a token of the same limiter, as the
    #: call starts; 0 for coroutines.
    queued: int
    #: Seconds between start and end; None as the call starts.
    took: float | None
    #: The exception that the call has raised, if it has.
    error: BaseException | None


Observer = Callable[[CallEvent], object]

#: The setting of `observe_calls`.
observer: Observer | None = None


def observe_calls(new_observer: Observer | None) -> None:
    """Have `new_observer` called with a `CallEvent` as each call starts and as it finishes.

    There is one observer for the process; it sees the calls that are made from now on. It is called
    on the thread that runs the call, in the call's context, between the call and the code that
    waits for it: it should be quick, and must not use the bridge. Its exceptions are logged to
    ``asgiref.sync`` and otherwise ignored. Any thread may call this.

    Args:
        new_observer: the function; None: observe nothing.

    >>> import asyncio
    >>> from asgiref.sync import sync_to_async
    >>> observe_calls(lambda event: print(event.kind, event.function.__name__, event.error))
    >>> asyncio.run(sync_to_async(len)("four"))
    started len None
    finished len None
    4
    >>> observe_calls(None)
    """
    global observer
    observer = new_observer


def observe_function(call: FunctionCall, observer: Observer) -> None:
    """Have `observer` told of `call`, which was just made and has a handler."""
    called = time.perf_counter()
    handler = call.handler
    assert handler is not None

    def run(*arguments: Any) -> Any:
        queued = _queued_for_this_thread(call)
        tell = _teller(observer, "sync_to_async", call.function, called, queued)
        try:
            result = handler(*arguments)
        except BaseException as error:
            tell(error)
            raise
        tell(None)
        return result

    call.handler = run


async def observe_awaitable(
    function: Callable[..., Any], awaitable: Awaitable[_R], observer: Observer, called: float
) -> _R:
    """Return ``await awaitable``, a call of `function`, and tell `observer` of it."""
    tell = _teller(observer, "async_to_sync", function, called, 0)
    try:
        result = await awaitable
    except BaseException as error:
        tell(error)
        raise
    tell(None)
    return result


def _teller(
    observer: Observer,
    way: Literal["sync_to_async", "async_to_sync"],
    function: Callable[..., Any],
    called: float,
    queued: int,
) -> Callable[[BaseException | None], None]:
    """Tell `observer` that a call starts; return a function that tells it of the end."""
    thread = threading.current_thread()
    started = time.perf_counter()
    start = CallEvent("started", way, function, thread, started - called, queued, None, None)
    _tell(observer, start)

    def finish(error: BaseException | None) -> None:
        took = time.perf_counter() - started
        _tell(observer, start._replace(kind="finished", took=took, error=error))

    return finish


def _tell(observer: Observer, event: CallEvent) -> None:
    try:
        observer(event)
    except Exception:
        logger.exception("the observer of asgiref.sync raised an exception")


def _queued_for_this_thread(call: FunctionCall) -> int:
    if call.limiter is not None:
        return call.limiter.queued
    state = thread_state()
    blocked = state.coroutine_call
    if blocked is not None and blocked.executor.queued:
        return blocked.executor.queued
    return sum(worker.queued for worker in all_workers() if worker.thread is state.thread)
