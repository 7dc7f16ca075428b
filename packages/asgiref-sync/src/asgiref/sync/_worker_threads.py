"""A bounded number of threads of one's own, for `sync_to_async` and for whoever knows executors.

The process has its own pool for ``thread_sensitive=False``. Who wants another bound, or wants what
a thread keeps (an open connection to a database) to be there for the next call, makes his own with
this class. To the bridge it is no foreign executor: calls are queued on its workers directly, with
no future in between, and the two kinds of waiting that must not starve others, in `async_to_sync`
and in `waiting`, give a place free for as long as they last.
"""

import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from ._calls import Call
from ._parallel import ParallelCalls
from ._places import PLACES
from ._threads import THREAD
from ._workers import SubmittedCall, WorkerPool

__all__ = ["WorkerThreads"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class WorkerThreads(Executor):
    """At most `limit` functions at a time, on threads that serve nobody else.

    An executor for ``sync_to_async(..., thread_sensitive=False, executor=...)``, which it serves
    faster than other executors; any other code may `submit` to it as well. Threads are started as
    they are needed, and end when they were idle for a minute, or when nobody refers to this object
    any more. What they keep in `threading.local` is there for the next call.

    A function that waits in `async_to_sync`, or inside `waiting`, is not counted while it waits.

    Args:
        limit: how many functions may run at a time.
        name: what the names of the threads begin with.

    Raises:
        ValueError: `limit` is below 1.

    >>> import asyncio
    >>> from asgiref.sync import sync_to_async
    >>> threads = WorkerThreads(2)
    >>> asyncio.run(sync_to_async(len, thread_sensitive=False, executor=threads)("four"))
    4
    """

    def __init__(self, limit: int, name: str = "asgiref-threads") -> None:
        if limit < 1:
            raise ValueError(f"limit must be a positive number of threads, not {limit!r}")
        self._calls = ParallelCalls(WorkerPool(name, one_user=True), limit)
        self._open = True
        PLACES.add(self._calls)
        weakref.finalize(self, self._calls.pool.close).atexit = False

    def put(self, call: Call | SubmittedCall) -> None:
        """Run a call of `sync_to_async`; for the bridge only."""
        if not self._open:
            raise RuntimeError("these WorkerThreads were shut down and take no further calls")
        self._calls.put(call)

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on one of the threads. Any thread may call this.

        Returns:
            A `concurrent.futures.Future` of what it returns.

        Raises:
            RuntimeError: after `shutdown`, and at interpreter exit, when no thread can be started.
        """
        call = SubmittedCall(partial(fn, *args, **kwargs))
        self.put(call)
        return call.future

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Say that the function that runs here waits, for a slow client say, and does not count.

        Another one may begin meanwhile. On the way out nothing is waited for, so there may be more
        than `limit` for a moment. In a thread that runs no call of `sync_to_async` on this
        executor, it does nothing.
        """
        call = THREAD.record.call
        if call is None or call.place is not self._calls:
            yield
            return
        # What is called in here must not give the same place free again.
        call.place = None
        self._calls.begin_waiting()
        try:
            yield
        finally:
            call.place = self._calls
            self._calls.end_waiting()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls, and end the threads when those that were taken have ended.

        Args:
            wait: return only then.
            cancel_futures: cancel the calls that have not begun.
        """
        self._open = False
        if cancel_futures:
            for call in self._calls.take_backlog():
                call.drop()
        self._calls.pool.close()
        if wait:
            self._wait()

    def _wait(self) -> None:
        # The last call of the backlog begins after all the others, so when it has ended there will
        # be no further workers.
        last = SubmittedCall(int)
        self._calls.put(last)
        last.future.result()
        for worker in self._calls.pool.workers():
            worker.thread.join()
