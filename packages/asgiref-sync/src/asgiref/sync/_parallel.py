"""Calls with ``thread_sensitive=False``: any thread will do, but not any number of threads.

Each event loop has its own places (so had it its own executor in asgiref 3.13): functions that
block on each other's loops, or start a thread that runs one and wait for it, would starve if they
shared them. `WorkerThreads` are places that users make. The workers come from one pool.

At most `limit` functions run at a time; further calls wait in the backlog, first come first served.
A function that waits in `async_to_sync` does not count while it waits: what it waits for may itself
need a thread, and with a fixed number of them enough such functions would starve each other (64 in
flight, each needing one more, hang any executor of 32). For the moment in which it comes back there
may be one thread more than `limit`; no new one is begun until the number is below again. For the
same reason a call from a function that has a place here, and runs a loop itself, by `asyncio.run`,
is begun at once (`WorkerThreads` serve several loops): the function waits.

Every call goes through the backlog, and workers take calls from there. A worker that was woken, or
is through with a call, is *searching* until it has looked. The invariant: when there is a call in
the backlog and a place for it, some worker is searching. So whoever adds a call wakes a worker only
if none is searching, and a worker that takes a call and leaves another wakes the next one before it
runs its own. Of functions that are short and never block, the first worker runs all that came
together, while the second one still waits for the interpreter's lock; functions that block are on
as many threads as ever. Waking a thread for each call instead, 32 threads fight for the lock to run
32 functions of 50 µs (32 clients of a WSGI application: a third fewer answers a second).

A worker looks for the next call after its result is on its way, but counts as searching before: the
caller who goes on at once, with another call, finds it, and wakes nobody.

The lock guards the backlog and the two numbers; no user code runs under it.
"""

import contextlib
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
        self._searching = 0

    def put(self, call: Call | SubmittedCall) -> None:
        """Run `call` on a worker, now or when one of the running calls ends."""
        if self.has_this_thread():
            self._put_at_once(call)
            return
        with self._lock:
            self._backlog.append(call)
            wake = self._needs_worker()
        if wake:
            try:
                self._wake_worker()
            except BaseException:
                with self._lock, contextlib.suppress(ValueError):
                    self._backlog.remove(call)
                raise

    def _put_at_once(self, call: Call | SubmittedCall) -> None:
        """Run `call` now, on a worker of its own, whether or not there is a place."""
        with self._lock:
            self._running += 1
        try:
            self._wake_worker(call)
        except BaseException:
            with self._lock:
                self._running -= 1
            raise

    def has_this_thread(self) -> bool:
        """Whether the calling thread runs a function that has a place here."""
        above = THREAD.record.call
        return above is not None and above.place is self

    def _needs_worker(self) -> bool:
        """Under the lock: whether to wake a worker; if so, it counts as searching from now on."""
        if self._backlog and not self._searching and self._running < self.limit:
            self._searching += 1
            return True
        return False

    def _wake_worker(self, call: Call | SubmittedCall | None = None) -> None:
        """Have another worker take calls; `call` first, if there is one, which has its place."""
        try:
            worker = self.pool.take()
        except BaseException:
            if call is None:
                with self._lock:
                    self._searching -= 1
            raise
        worker.put(_Shift(self, worker, call))

    def work(self, worker: Worker, call: Call | SubmittedCall | None) -> None:
        """On the thread of `worker`: run calls until there is none, or no place for one."""
        while call is not None or (call := self._next(worker)) is not None:
            call.release = self._release
            call.place = self
            call.run()
            # While this thread looks for the next one it must not keep this one's arguments.
            call = None

    def _next(self, worker: Worker) -> Call | SubmittedCall | None:
        """Take a call out of the backlog, or rest."""
        self.pool.hand_over(worker)
        with self._lock:
            self._searching -= 1
            if not self._backlog or self._running >= self.limit:
                self.pool.give_back(worker)
                return None
            call = self._backlog.popleft()
            self._running += 1
            wake = self._needs_worker()
        if wake:
            self._wake_if_possible()
        return call

    def _wake_if_possible(self) -> None:
        # No thread can be started any more at interpreter exit: this worker will get to the others.
        with contextlib.suppress(RuntimeError):
            self._wake_worker()

    def _release(self, _: object) -> None:
        """On a worker's thread, when its call has ended and before anybody learns of it."""
        with self._lock:
            self._running -= 1
            self._searching += 1

    def take_backlog(self) -> list[Call | SubmittedCall]:
        """Take out the calls that have not begun."""
        with self._lock:
            calls = list(self._backlog)
            self._backlog.clear()
        return calls

    def begin_waiting(self) -> None:
        """The calling worker's function waits in `async_to_sync`: let another one run."""
        with self._lock:
            self._running -= 1
            wake = self._needs_worker()
        if wake:
            self._wake_worker()

    def end_waiting(self) -> None:
        """The function goes on."""
        with self._lock:
            self._running += 1


class _Shift:
    """What a woken worker finds in its queue."""

    __slots__ = ("_call", "_calls", "_worker")

    def __init__(
        self, calls: ParallelCalls, worker: Worker, call: Call | SubmittedCall | None
    ) -> None:
        self._calls = calls
        self._worker = worker
        self._call = call

    def run(self) -> None:
        call, self._call = self._call, None
        self._calls.work(self._worker, call)
