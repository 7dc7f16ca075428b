"""The threads of this process, and what happens to them at fork and at exit.

One object holds all pools; whoever needs a thread is given it, nobody reaches for a pool by name.

At interpreter exit functions that run are waited for, as asgiref 3.13 does: its
`concurrent.futures` pools join their threads before the first ``atexit`` function is called, and
what was handed to a thread (the last writes of a request that was cancelled) is done before the
process ends. The threads here are daemons, so that an idle one holds nothing; the busy ones are
waited for at the same point. They stay usable after that: an ``atexit`` function may call the
bridge once more.
"""

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable

from ._inbox import Inbox
from ._loops import LoopPool
from ._parallel import ParallelCalls, default_limit
from ._workers import SharedWorker, Worker, WorkerPool, wait_for_workers

__all__ = ["PLACES", "Places"]


class Places:
    """Where code can run in this process, besides the threads that applications bring."""

    def __init__(self) -> None:
        self._groups: weakref.WeakSet[ParallelCalls] = weakref.WeakSet()
        self.pool = WorkerPool("asgiref-worker")
        #: The thread for thread-sensitive code that belongs nowhere else.
        self.shared = SharedWorker("asgiref-shared")
        self.loops = LoopPool()

    def add(self, group: ParallelCalls) -> None:
        """Take note of `group` and its workers, for as long as it lives."""
        self._groups.add(group)

    def parallel_of(self, inbox: Inbox) -> ParallelCalls:
        """Return where calls with ``thread_sensitive=False`` from the loop of `inbox` run.

        On the loop's thread.
        """
        if inbox.parallel is None:
            inbox.parallel = ParallelCalls(self.pool, default_limit())
            self.add(inbox.parallel)
        return inbox.parallel

    def _all_groups(self) -> list[ParallelCalls]:
        while True:
            try:
                return list(self._groups)
            except RuntimeError:  # another thread added one meanwhile
                continue

    def forget(self) -> None:
        """Start anew, in a forked child."""
        for group in self._all_groups():
            group.forget()

    def workers(self) -> list[Worker]:
        """Return the worker threads of this process, idle or not."""
        pools = {self.pool, *(group.pool for group in self._all_groups())}
        pooled = [worker for pool in pools for worker in pool.workers()]
        return [*self.shared.workers(), *pooled]

    def wait(self) -> None:
        """Wait until everything that was queued on a worker has ended."""
        wait_for_workers(self.workers())


PLACES = Places()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PLACES.forget)

# The function that concurrent.futures uses runs before the interpreter refuses new threads.
_register: Callable[[Callable[[], None]], object] = getattr(
    threading, "_register_atexit", atexit.register
)
with contextlib.suppress(RuntimeError):  # imported while the interpreter exits
    _register(PLACES.wait)
