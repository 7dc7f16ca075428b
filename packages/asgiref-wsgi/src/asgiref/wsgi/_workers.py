"""Where the application runs: a bounded pool of worker threads, or a thread that somebody chose.

Theory of operation. `workers` bounds how many applications run at once. A thread that waits for a
client (to read a slow response, or to send a slow upload) does not run the application, so it does
not count: it lends its place to a queued request, and takes it back when the client has moved,
without waiting for a free one. So the bound may be exceeded for a moment, and clients that stall
can never use the pool up, up to STALLED_CLIENTS of them.

The pool's threads are those of a ThreadPoolExecutor: it starts them when none is idle, and it ends
them properly when the interpreter exits. Only the admission is ours.

Invariant: `_free`, the number of places, is `workers` minus the threads that count; it and the
queue are touched under the lock. Nothing runs and nobody waits under it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

DEFAULT_WORKERS = 40
STALLED_CLIENTS = 1000


class WorkerPool(Executor):
    """At most `workers` calls at once, not counting those that wait for a client."""

    def __init__(self, workers: int) -> None:
        self._lock = threading.Lock()
        self._free = workers
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = ThreadPoolExecutor(workers + STALLED_CLIENTS, "asgiref-wsgi")
        self._current = threading.local()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        # The future is ours: one of the ThreadPoolExecutor, cancelled before it runs, would take
        # its place with it.
        future: Future[T] = Future()
        call = functools.partial(fn, *args, **kwargs)
        with self._lock:
            if self._free <= 0:
                self._queue.append((future, call))
                return future
            self._free -= 1
        self._threads.submit(self._run, future, call)
        return future

    @contextmanager
    def waiting(self) -> Generator[None]:
        """The calling thread waits for a client; does nothing on a thread of another pool."""
        if not getattr(self._current, "is_ours", False):
            yield
            return
        self._give_place()
        try:
            yield
        finally:
            with self._lock:
                self._free -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Free the idle threads; calls that run or are queued still come to their end."""
        with self._lock:
            queued = list(self._queue)
            self._queue.clear()
            self._free -= len(queued)
        for future, call in queued:
            if cancel_futures:
                future.cancel()
            self._threads.submit(self._run, future, call)
        self._threads.shutdown(wait)

    def _run(self, future: Future[T], call: Callable[[], T]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                self._current.is_ours = True
                future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._give_place()
            del future, call  # an exception's traceback holds this frame

    def _give_place(self) -> None:
        with self._lock:
            self._free += 1
            if self._free <= 0 or not self._queue:
                return
            self._free -= 1
            future, call = self._queue.popleft()
        self._threads.submit(self._run, future, call)


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
        self._workers = workers or DEFAULT_WORKERS
        self._executor = executor
        self._pool: WorkerPool | None = None
        self._pool_pid = 0
        # Made once: making a SyncToAsync costs more than calling it.
        self._sensitive = SyncToAsync(_call, thread_sensitive=True)
        self._pooled = self._sensitive

    def run(self, function: Callable[[A], None], argument: A) -> Coroutine[Any, Any, None]:
        """A coroutine that calls the function on a worker thread, through the bridge.

        The bridge takes the context variables along, and async_to_sync in the function finds the
        event loop. Inside a ThreadSensitiveContext the thread is that context's.
        """
        if self.thread_sensitive or SyncToAsync.thread_sensitive_context.get(None) is not None:
            return self._sensitive(function, argument)
        if self._pool_pid != os.getpid():  # no pool yet, or that of the process that forked us
            self._open()
        return self._pooled(function, argument)

    def waiting(self) -> AbstractContextManager[None]:
        """The context in which a thread waits for a client."""
        return nullcontext() if self._pool is None else self._pool.waiting()

    def free(self) -> None:
        """End the idle threads of the pool; the next request makes a new pool."""
        pool, self._pool, self._pool_pid = self._pool, None, 0
        if pool is not None:
            pool.shutdown(wait=False)

    def _open(self) -> None:
        executor = self._executor
        if executor is None:
            executor = self._pool = WorkerPool(self._workers)
        self._pooled = SyncToAsync(_call, thread_sensitive=False, executor=executor)
        self._pool_pid = os.getpid()


def _call(function: Callable[[Any], None], argument: Any) -> None:
    function(argument)


@functools.cache
def shared_workers() -> Workers:
    """The workers of every WsgiToAsgiInstance that was made without a WsgiToAsgi."""
    return Workers()
