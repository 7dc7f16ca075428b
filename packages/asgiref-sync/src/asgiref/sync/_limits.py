"""Limits on the number of functions that run at once with ``thread_sensitive=False``.

A call runs only while it holds a token of a `PoolLimiter`. Other calls wait in the limiter's
backlog and run in order. Each event loop has its own limiter, because functions that block on each
other's loops would starve if they shared one. A function that is blocked in `async_to_sync` lends
its token, because its coroutine may need one.

The invariant: while the backlog holds a call and a token is free, a thread has been woken or is
about to check the backlog. A thread that takes a call and leaves others wakes the next thread
before it runs the call. As long as calls are short, the first thread therefore runs all of them.
Waking a thread for each call would make the threads compete for the interpreter's lock, which
reduces WSGI responses per second by a third with 32 clients.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import ParamSpec, TypeVar

from ._calls import FunctionCall
from ._thread_pool import SubmittedCall, ThreadPool, WorkItem
from ._thread_state import PROCESS, thread_state, thread_state_at_entry

_P = ParamSpec("_P")
_R = TypeVar("_R")

_Limited = FunctionCall | SubmittedCall


class PoolLimiter(WorkItem):
    """Runs calls on threads of `pool`, at most `limit` at a time.

    As a pool work item, it takes and runs calls until none is left.
    """

    def __init__(self, pool: ThreadPool, limit: int) -> None:
        self.pool = pool
        self.limit = limit
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = PROCESS.pid
        self._lock = threading.RLock()
        self._backlog: deque[_Limited] = deque()
        self._running: set[_Limited] = set()
        # Whether a woken thread has yet to check the backlog, and which threads are about to check
        # it. A set, because an interrupted thread may remove itself twice.
        self._is_woken = False
        self._searching: set[int] = set()

    @property
    def queued(self) -> int:
        """The number of calls waiting for a token or a thread."""
        return len(self._backlog)

    @property
    def is_busy(self) -> bool:
        return bool(self._backlog or self._running)

    def submit(self, call: _Limited) -> None:
        """Run `call` when a token is free. Raises RuntimeError if no thread can start."""
        if self._pid != PROCESS.pid:
            self._start_anew()
        above = thread_state().call
        if above is not None and above.limiter is self and isinstance(call, FunctionCall):
            # The calling function holds a token and runs the loop that waits for this call.
            self.pool.submit(call)
            return
        try:
            with self._lock:
                self._backlog.append(call)
                if not self._needs_thread():
                    return
                self._is_woken = True
            self._wake_thread()
        except BaseException:
            with self._lock, suppress(ValueError):
                self._backlog.remove(call)
            # A signal handler may have raised before a thread was woken for the other calls.
            self._is_woken = False
            self._wake_next()
            raise

    def _needs_thread(self) -> bool:
        """Whether a call could run now and no thread is about to take it. Hold the lock."""
        return bool(
            self._backlog
            and not self._is_woken
            and not self._searching
            and len(self._running) < self.limit
        )

    def _wake_thread(self) -> None:
        try:
            self.pool.submit(self)
        except Exception as error:
            self._is_woken = False
            self._discard_stranded(error)
            raise
        except BaseException:
            # A signal handler raised, perhaps before the thread got the item. A second thread is
            # harmless.
            self.pool.submit(self)
            raise

    def _discard_stranded(self, error: BaseException) -> None:
        """Discard the backlog if no thread will ever check it."""
        with self._lock:
            if self._running or self._searching or self._is_woken:
                return
            calls = self.take_backlog()
        for call in calls:
            call.discard(error)

    def _wake_next(self) -> None:
        """Wake another thread if one is needed. If none can start, the backlog waits."""
        with self._lock:
            if not self._needs_thread():
                return
            self._is_woken = True
        with suppress(Exception):
            self._wake_thread()

    # Methods for a thread of the pool.

    def run(self) -> None:
        thread = threading.get_ident()
        self._searching.add(thread)
        self._is_woken = False
        try:
            while (call := self._take(thread)) is not None:
                try:
                    call.run()
                except BaseException as error:
                    call.discard(error)
                    raise
                finally:
                    # Before the delivery: if the caller makes its next call at once, this thread
                    # finds that call, and no other thread is woken.
                    with self._lock:
                        self._running.discard(call)
                        self._searching.add(thread)
                    call.deliver()
                # Do not keep the call's arguments alive while taking the next call.
                call = None
        except BaseException:
            # Another thread raised this exception in this one, or memory is exhausted.
            self._searching.discard(thread)
            self._is_woken = False
            self._wake_next()
            raise

    def _take(self, thread: int) -> _Limited | None:
        """Give `thread` the next call and a token. Return None if no call can run."""
        with self._lock:
            self._searching.discard(thread)
            if not self._backlog or len(self._running) >= self.limit:
                return None
            call = self._backlog[0]
            self._running.add(call)
            self._backlog.popleft()
            is_more = bool(self._backlog)
        if isinstance(call, FunctionCall):
            call.limiter = self
        if is_more:
            self._wake_next()
        return call

    def discard(self, error: BaseException) -> None:
        self._is_woken = False
        self._wake_next()

    # Tokens of blocked calls.

    def lend_token(self, call: FunctionCall) -> "_LentToken":
        """Return a context manager that lends the token of `call` while `call` is blocked."""
        return _LentToken(self, call)

    def lend(self, call: FunctionCall) -> None:
        """Take the token of `call`, which runs on this thread, until `give_back` is called."""
        with self._lock:
            self._running.discard(call)
        self._wake_next()

    def give_back(self, call: FunctionCall) -> None:
        """Return the token to `call`, even if more than `limit` calls then run."""
        with self._lock:
            # A generator may start its `with` block in one call and end it in a later one.
            if not call.is_over:
                self._running.add(call)

    def take_backlog(self) -> list[_Limited]:
        """Remove and return the calls that have not started."""
        with self._lock:
            calls = list(self._backlog)
            self._backlog.clear()
        return calls


class _LentToken:
    """A ``with`` block in which a call lends its token.

    It is not a @contextmanager, because that sets attributes on exceptions, and exceptions from
    user code may reject them.
    """

    __slots__ = ("_call", "_limiter")

    def __init__(self, limiter: PoolLimiter, call: FunctionCall) -> None:
        self._limiter = limiter
        self._call = call

    def __enter__(self) -> None:
        # Remove the limiter, so that a nested block does not lend the same token again.
        self._call.limiter = None
        self._limiter.lend(self._call)

    def __exit__(self, *exc_info: object) -> None:
        self._limiter.give_back(self._call)
        self._call.limiter = self._limiter


_POOL = ThreadPool("asgiref-worker")
_POOL.end_idle_before_fork()
# No lock: each access is one atomic operation of the dictionary, and no code iterates over it.
_LIMITERS = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, PoolLimiter]()


def _default_limit() -> int:
    """Return the number of threads that `concurrent.futures.ThreadPoolExecutor` would use."""
    count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
    return min(32, (count or 1) + 4)


def limiter_of(loop: asyncio.AbstractEventLoop) -> PoolLimiter:
    """Return the limiter of `loop`. Call this on the loop's thread."""
    limiter = _LIMITERS.get(loop)
    if limiter is None:
        limiter = _LIMITERS[loop] = PoolLimiter(_POOL, _default_limit())
    return limiter


def forget_limiter(loop: asyncio.AbstractEventLoop) -> None:
    """Forget the limiter of `loop`: an abandoned function may never return its token."""
    _LIMITERS.pop(loop, None)


class LimitedExecutor(Executor):
    """Runs at most `limit` functions at a time, on threads that serve only this executor.

    Pass it to ``sync_to_async(..., thread_sensitive=False, executor=...)``, which is faster with
    this executor than with others. Any other code can `submit` to it as well. Threads start when
    they are needed. They exit after a minute without work, or when the executor is shut down or
    garbage-collected. A thread keeps its `threading.local` values between calls.

    A function that `sync_to_async` runs does not count while it is blocked in `async_to_sync` or
    inside `waiting`. The limit applies to functions, not threads: one extra thread may exist. For
    objects that are bound to a thread, use `ThreadSensitiveContext` or a pool of one thread.

    Args:
        limit: the maximum number of functions that run at a time.
        name: the prefix of the threads' names.

    Raises:
        ValueError: `limit` is below 1.

    >>> import asyncio
    >>> from asgiref.sync import sync_to_async
    >>> executor = LimitedExecutor(2)
    >>> asyncio.run(sync_to_async(len, thread_sensitive=False, executor=executor)("four"))
    4
    """

    def __init__(self, limit: int, name: str = "asgiref-threads") -> None:
        if limit < 1:
            raise ValueError(f"limit must be a positive number of threads, not {limit!r}")
        self._pool = ThreadPool(name)
        self._limiter = PoolLimiter(self._pool, limit)
        self._open = True
        weakref.finalize(self, self._pool.close).atexit = False

    def submit_call(self, call: FunctionCall | SubmittedCall) -> None:
        """Run a call from the bridge on one of the threads.

        Args:
            call: a call from async code or from `submit`.

        Raises:
            RuntimeError: the executor was shut down, or no thread can be started.
        """
        if not self._open:
            raise RuntimeError("this LimitedExecutor was shut down and accepts no more calls")
        self._limiter.submit(call)

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on one of the threads. Any thread may call this.

        Returns:
            A `concurrent.futures.Future` of the function's result.

        Raises:
            RuntimeError: the executor was shut down, or no thread can be started.
        """
        PROCESS.refresh()
        call = SubmittedCall(partial(fn, *args, **kwargs))
        self.submit_call(call)
        return call.future  # type: ignore[return-value]

    def waiting(self) -> AbstractContextManager[None]:
        """Let another function run while the calling function waits, for example for a slow client.

        Use it in a ``with`` statement. It does nothing in a thread that is not running a function
        for `sync_to_async` on this executor.
        """
        call = thread_state_at_entry().call
        if call is None or call.limiter is not self._limiter:
            return nullcontext()
        return self._limiter.lend_token(call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further calls, and stop the threads once the accepted calls have finished.

        Args:
            wait: whether to wait until the threads have exited.
            cancel_futures: cancel the calls that have not started.

        Raises:
            RuntimeError: one of the executor's own functions passed ``wait=True``.
        """
        PROCESS.refresh()
        self._open = False
        if cancel_futures:
            for call in self._limiter.take_backlog():
                _cancel(call)
        try:
            if wait and self._pool.owns_current_thread():
                raise RuntimeError(
                    "a function of a LimitedExecutor cannot wait for the executor to shut down: "
                    "pass wait=False to shutdown"
                )
            if wait and self._limiter.is_busy and not PROCESS.is_exiting:
                # The backlog's last call starts after all the others.
                last = SubmittedCall(int)
                self._limiter.submit(last)
                last.future.result()
        finally:
            self._pool.close()
        if wait:
            self._pool.join()


def _cancel(call: FunctionCall | SubmittedCall) -> None:
    if isinstance(call, SubmittedCall):
        if call.future.cancel():
            call.future.set_running_or_notify_cancel()
    else:
        call.discard(asyncio.CancelledError("the executor dropped the call"))
