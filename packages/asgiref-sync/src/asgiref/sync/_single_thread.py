"""`AsyncSingleThreadContext`: a block whose coroutines share one thread and one loop.

The outermost block of a context counts. It takes a loop thread at the first top-level
`async_to_sync` in it and keeps it, with the loop running between the calls, so that a client or a
connection that one call opened serves the next. At its end the loop is ended as `asyncio.run` ends
its own. The thread that leaves waits for that in a frame, since the tasks that are cancelled then
may have synchronous code to run on it.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType

from ._frames import CurrentThreadExecutor
from ._loops import LoopThread
from ._places import PLACES

__all__ = ["ASYNC_SINGLE_THREAD_CONTEXT", "AsyncSingleThreadContext"]

ASYNC_SINGLE_THREAD_CONTEXT: "ContextVar[AsyncSingleThreadContext]" = ContextVar(
    "asgiref.sync.async_single_thread_context"
)


class AsyncSingleThreadContext:
    """Run all top-level `async_to_sync` calls of a ``with`` block on one thread and one loop.

    The loop runs from the first call until the block ends; then its tasks are cancelled and awaited
    and it is closed. Blocks inside another one, also of the same object, do nothing. Calls below
    `sync_to_async` go to the loop they came from, here as elsewhere, and ``force_new_loop=True``
    asks for a loop of its own.

    >>> import threading
    >>> from asgiref.sync import async_to_sync
    >>> async def thread():
    ...     return threading.current_thread()
    >>> with AsyncSingleThreadContext():
    ...     async_to_sync(thread)() is async_to_sync(thread)()
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._token: Token[AsyncSingleThreadContext] | None = None
        self._loop_thread: LoopThread | None = None

    def __enter__(self) -> "AsyncSingleThreadContext":
        active = ASYNC_SINGLE_THREAD_CONTEXT.get(None)
        if active is None:
            self._token = ASYNC_SINGLE_THREAD_CONTEXT.set(self)
        if active is None or active is self:
            self._depth += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._depth == 0:
            return
        self._depth -= 1
        if self._depth or self._token is None:
            return
        ASYNC_SINGLE_THREAD_CONTEXT.reset(self._token)
        self._token = None
        self.end()

    @contextmanager
    def during(self) -> Generator[None]:
        """Be the active context for a moment, whatever the rest of this context is in."""
        token = ASYNC_SINGLE_THREAD_CONTEXT.set(self)
        try:
            yield
        finally:
            ASYNC_SINGLE_THREAD_CONTEXT.reset(token)

    def end(self) -> None:
        """End the loop, if there is one, and wait until that is done."""
        loop_thread, self._loop_thread = self._loop_thread, None
        if loop_thread is None:
            return
        frame = CurrentThreadExecutor()
        loop_thread.end(frame)
        try:
            frame.serve(lambda: None)
        finally:
            frame.close()

    def loop_thread(self) -> LoopThread:
        """Return the block's loop thread, taken from the pool by the first who asks."""
        with self._lock:
            if self._loop_thread is None:
                self._loop_thread = PLACES.loops.take()
                self._loop_thread.dedicate()
            return self._loop_thread
