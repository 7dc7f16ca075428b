"""Notify an observer when each call across the bridge starts and finishes.

The wrappers read `observer` once for each call, which is the only cost without an observer. The
invariant: the observer gets two events for each call that starts, and cannot change its outcome.
"""

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from ._calls import FunctionCall
from ._thread_pool import all_workers
from ._thread_state import thread_state

_R = TypeVar("_R")

logger = logging.getLogger("asgiref.sync")


class CallEvent(NamedTuple):
    """A call across the bridge has started or finished."""

    #: Whether the call has started or finished.
    kind: Literal["started", "finished"]
    #: The wrapper that made the call.
    way: Literal["sync_to_async", "async_to_sync"]
    #: The function or coroutine function that was called.
    function: Callable[..., Any]
    #: The thread that runs the function or the coroutine's event loop.
    thread: threading.Thread
    #: Seconds between the call and its start.
    waited: float
    #: The number of other functions waiting for the same thread or for a token of the same
    #: limiter when the call starts; 0 for coroutines.
    queued: int
    #: Seconds between start and end; None in the first event.
    took: float | None
    #: The exception that the call raised, if any.
    error: BaseException | None


Observer = Callable[[CallEvent], object]

#: The setting of `observe_calls`.
observer: Observer | None = None


def observe_calls(new_observer: Observer | None) -> None:
    """Call `new_observer` with a `CallEvent` when each call starts and when it finishes.

    The process has one observer, which sees the calls made after it was set. The thread that runs a
    call also runs the observer, in the call's context, while the caller is still waiting. So the
    observer should be quick, and it must not use the bridge. Its exceptions are logged to
    ``asgiref.sync`` and otherwise ignored. Any thread may call this function.

    Args:
        new_observer: a function that accepts a `CallEvent`, or None to stop observing.

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
    """Notify `observer` of `call`, which was just made and has a handler."""
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


class ObservedAwaitable(Generic[_R]):
    """Awaits `awaitable`, a call to `function`, and notifies `observer` of it.

    It is not a coroutine, because Python warns of a coroutine that nothing awaits: if the call
    cannot start, only the coroutine of the user is closed.
    """

    __slots__ = ("_awaitable", "_called", "_function", "_observer")

    def __init__(
        self,
        function: Callable[..., Any],
        awaitable: Awaitable[_R],
        observer: Observer,
        called: float,
    ) -> None:
        self._function = function
        self._awaitable = awaitable
        self._observer = observer
        self._called = called

    def __await__(self) -> Generator[Any, Any, _R]:
        return self._observe().__await__()

    async def _observe(self) -> _R:
        tell = _teller(self._observer, "async_to_sync", self._function, self._called, 0)
        try:
            result = await self._awaitable
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
    """Notify `observer` of a call's start. Return a function that notifies it of the end."""
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
