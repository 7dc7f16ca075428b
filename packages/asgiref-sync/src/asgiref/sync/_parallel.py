"""Calls with ``thread_sensitive=False``: any thread will do, but not any number of threads.

At most `limit` functions run at a time; further calls wait in the backlog, first come first served.
A function that waits in `async_to_sync` does not count while it waits: what it waits for may itself
need a thread, and with a fixed number of them enough such functions would starve each other (64 in
flight, each needing one more, hang any executor of 32). For the moment in which it comes back there
may be one thread more than `limit`; no new one is begun until the number is below again. For the
same reason a call from a loop that one of these functions runs itself, by `asyncio.run`, is begun
at once: the function has a place and waits.

The lock guards the two numbers and nothing else; no user code runs under it.
"""

import os
import threading
from collections import deque

from ._calls import Call
from ._threads import THREAD
from ._workers import SubmittedCall, Worker, WorkerPool

__all__ = ["ParallelCalls", "default_limit"]


def default_limit() -> int:
    """Return the number of threads that `concurrent.futures.ThreadPoolExecutor` would use."""
    count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
    return min(32, (count or 1) + 4)


class ParallelCalls:
    """Runs calls on workers of `pool`, at most `limit` at a time."""

    def __init__(self, pool: WorkerPool, limit: int) -> None:
        self.pool = pool
        self.limit = limit
        self.forget()

    def forget(self) -> None:
        """Start anew, in a forked child: the threads that held the places are gone."""
        self._lock = threading.Lock()
        self._backlog: deque[Call | SubmittedCall] = deque()
        self._running = 0

    def put(self, call: Call | SubmittedCall) -> None:
        """Run `call` on a worker, now or when one of the running calls ends."""
        with self._lock:
            if self._running >= self.limit and not self.has_this_thread():
                self._backlog.append(call)
                return
            self._running += 1
        self._start(call)

    def has_this_thread(self) -> bool:
        """Whether the calling thread runs a function that has a place here."""
        above = THREAD.record.call
        return above is not None and above.place is self

    def _start(self, call: Call | SubmittedCall) -> None:
        try:
            worker = self.pool.take()
        except BaseException:
            with self._lock:
                self._running -= 1
            raise
        self._assign(call, worker)

    def _assign(self, call: Call | SubmittedCall, worker: Worker) -> None:
        call.release = lambda _: self._next(worker)
        call.place = self
        worker.put(call)

    def _next(self, worker: Worker) -> None:
        """On the worker's thread, when its call has ended: go on with another, or rest."""
        with self._lock:
            if self._backlog and self._running <= self.limit:
                call = self._backlog.popleft()
            else:
                self._running -= 1
                call = None
        if call is None:
            self.pool.give_back(worker)
        else:
            self._assign(call, worker)

    def take_backlog(self) -> list[Call | SubmittedCall]:
        """Take out the calls that have not begun."""
        with self._lock:
            calls = list(self._backlog)
            self._backlog.clear()
        return calls

    def begin_waiting(self) -> None:
        """The calling worker's function waits in `async_to_sync`: let another one run."""
        with self._lock:
            if not self._backlog:
                self._running -= 1
                return
            call = self._backlog.popleft()
        self._start(call)

    def end_waiting(self) -> None:
        """The function goes on."""
        with self._lock:
            self._running += 1
