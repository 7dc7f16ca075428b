"""Where the application runs: a bounded number of worker threads, or a thread that somebody chose.

`workers` bounds how many applications run at once. A thread that waits for a client (to read a slow
response, or to send a slow upload) does not run the application, so it does not count: it lends its
place to a queued request, and takes it back when the client has moved, without waiting for a free
one. So the bound may be exceeded for a moment, and clients that stall can never use the workers up,
up to STALLED_CLIENTS of them: from there on a stalled client keeps its worker, since threads are
not free either.

The threads serve this adapter alone and keep what they have from one request to the next, as those
of any WSGI server do: an open database connection in a `threading.local` is there for the next
request.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from asgiref.sync import LimitedExecutor, SyncToAsync

A = TypeVar("A")

DEFAULT_WORKERS = 40
STALLED_CLIENTS = 1000


class Workers:
    """Runs functions where an adapter's options say. One for all requests of a WsgiToAsgi.

    Raises TypeError or ValueError for options that make no sense.
    """

    def __init__(
        self,
        workers: int | None = None,
        executor: Executor | None = None,
        thread_sensitive: bool = False,
    ) -> None:
        if (workers is not None) + (executor is not None) + thread_sensitive > 1:
            raise TypeError("give one of workers, executor and thread_sensitive=True, not several")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be a positive number of threads, not {workers!r}")
        self.thread_sensitive = thread_sensitive
        self._limit = workers or DEFAULT_WORKERS
        self._executor = executor
        self._threads: LimitedExecutor | None = None
        # Made once: making a SyncToAsync costs more than calling it.
        self._sensitive = SyncToAsync(_call, thread_sensitive=True)
        self._free_running: SyncToAsync[[Callable[[Any], None], Any], None] | None = None
        self._stalled = threading.BoundedSemaphore(STALLED_CLIENTS)

    def run(self, function: Callable[[A], None], argument: A) -> Coroutine[Any, Any, None]:
        """A coroutine that calls the function on a worker thread, through the bridge.

        The bridge takes the context variables along, and async_to_sync in the function finds the
        event loop. Inside a ThreadSensitiveContext the thread is that context's.
        """
        if self.thread_sensitive or SyncToAsync.thread_sensitive_context.get(None) is not None:
            return self._sensitive(function, argument)
        return (self._free_running or self._open())(function, argument)

    def waiting(self) -> AbstractContextManager[None]:
        """The context in which a thread waits for a client."""
        return nullcontext() if self._threads is None else self._lend(self._threads)

    def free(self) -> None:
        """End the idle threads; the next request makes new ones."""
        threads, self._threads, self._free_running = self._threads, None, None
        if threads is not None:
            threads.shutdown(wait=False)

    def _open(self) -> SyncToAsync[[Callable[[Any], None], Any], None]:
        executor = self._executor
        if executor is None:
            executor = self._threads = LimitedExecutor(self._limit, "asgiref-wsgi")
        self._free_running = SyncToAsync(_call, thread_sensitive=False, executor=executor)
        return self._free_running

    @contextmanager
    def _lend(self, threads: LimitedExecutor) -> Generator[None]:
        if not self._stalled.acquire(blocking=False):
            yield
            return
        try:
            with threads.waiting():
                yield
        finally:
            self._stalled.release()


def _call(function: Callable[[Any], None], argument: Any) -> None:
    function(argument)


@functools.cache
def shared_workers() -> Workers:
    """The workers of every WsgiToAsgiInstance that was made without a WsgiToAsgi."""
    return Workers()
