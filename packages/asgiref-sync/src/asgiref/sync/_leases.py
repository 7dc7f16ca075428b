"""A pooled worker in the hands of one thread-sensitive context.

`calls` holds what was queued on the worker under this lease and has not ended. The loop's thread
adds before it queues, the worker's thread discards before the loop learns that the call ended; both
operations are atomic. So when a context exits and the set is empty, the worker is idle and goes
back to the pool at once: no thread is started, joined or woken for a request. When it is not empty
(a cancelled call may still run), the giving back is itself queued behind the last call, and
whoever exits waits for it as asgiref 3.13 waits for its executor to shut down.

A lease is made with its context and takes a worker at the first call, since many requests make
none. To those who ask for the context's executor it is one.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from ._calls import Call
from ._workers import SubmittedCall, Worker, WorkerPool

__all__ = ["Lease"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Lease(Executor):
    """A worker from `pool` for as long as it is held; one call at a time on one thread."""

    def __init__(self, pool: WorkerPool, avoid: Worker | None = None) -> None:
        self._pool = pool
        self._avoid = avoid
        self._lock = threading.Lock()
        self.calls: set[Call | SubmittedCall] = set()
        self.worker: Worker | None = None
        #: The worker that this lease had until it was given back.
        self.last_worker: Worker | None = None

    def is_current_thread(self) -> bool:
        return self.worker is not None and self.worker.is_current_thread()

    def put(self, call: Call | SubmittedCall) -> None:
        """Queue `call` on the worker, which is taken from the pool by the first one."""
        worker = self.worker
        if worker is None or not worker.alive:
            worker = self._take()
        self.calls.add(call)
        call.release = self.calls.discard
        worker.put(call)

    def _take(self) -> Worker:
        with self._lock:
            if self.worker is None or not self.worker.alive:
                self.calls.clear()
                self.worker = self._pool.take(self._avoid)
            return self.worker

    def give_back(self) -> "Future[None] | None":
        """End the lease. Returns a future to wait for if a call is still running, else None."""
        worker, self.worker = self.worker, None
        self.last_worker = worker
        if worker is None or not worker.alive:
            return None
        if not self.calls:
            self._pool.give_back(worker)
            return None
        last = SubmittedCall(lambda: self._pool.give_back(worker))
        worker.put(last)
        return last.future

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the context's thread; return its future."""
        call = SubmittedCall(lambda: fn(*args, **kwargs))
        self.put(call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Give the thread back when its last call has ended; wait for that if `wait`."""
        last = self.give_back()
        if wait and last is not None:
            last.result()

    def __del__(self) -> None:
        # A context that was called after its exit holds a worker until it is forgotten.
        self.give_back()
