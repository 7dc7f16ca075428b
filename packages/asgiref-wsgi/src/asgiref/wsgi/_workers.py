"""Runs the application on a limited number of worker threads, or on threads that users choose.

At most `workers` threads run the application at once. A thread that waits for a client (to read a
response or send an upload) does not count: it lends its token to a queued request and resumes when
it has a token again. So up to STALLED_CLIENTS slow clients occupy no worker; that limit exists
because threads are not free. With ``workers=1`` no token is lent, and one thread runs all requests,
each from start to finish; this is for applications that are not thread-safe.

The threads serve only this adapter and keep their thread-local state between requests, such as an
open database connection, as in any WSGI server.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from asgiref.sync import LimitedExecutor, SyncToAsync

from ._limiter import Limiter, Token

A = TypeVar("A")

DEFAULT_WORKERS = 40
STALLED_CLIENTS = 1000
#: Seconds after which a request that has not started counts as waiting. The adapter cannot know
#: whether other code has queued a function ahead of it on a shared thread.
UNSEEN_QUEUE = 0.05

#: The workers that run the current request; None outside a request.
_current: ContextVar[Workers | None] = ContextVar("asgiref.wsgi.workers", default=None)


class Workers:
    """Runs functions on the threads that an adapter's options select, for all its requests.

    Raises TypeError or ValueError for invalid options.
    """

    def __init__(
        self,
        workers: int | None = None,
        executor: Executor | None = None,
        thread_sensitive: bool = False,
    ) -> None:
        if (workers is not None) + (executor is not None) + thread_sensitive > 1:
            raise TypeError("pass only one of workers, executor and thread_sensitive=True")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be a positive number of threads, not {workers!r}")
        self.thread_sensitive = thread_sensitive
        self._count = workers or DEFAULT_WORKERS
        self.runs_in_parallel: bool = not thread_sensitive and (
            executor is not None or self._count > 1
        )
        self._given = executor
        self._start_anew()
        # Created once, because creating a SyncToAsync costs more than calling it.
        self._sensitive: SyncToAsync[..., None] = SyncToAsync(_call, thread_sensitive=True)
        self._on_given: SyncToAsync[..., None] = SyncToAsync(
            _call, thread_sensitive=False, executor=executor
        )

    def _start_anew(self) -> None:
        self._limiter = Limiter(self._count)
        self._threads: LimitedExecutor | ThreadPoolExecutor | None = None
        self._on_threads: SyncToAsync[..., None] | None = None
        self._stalled = threading.BoundedSemaphore(STALLED_CLIENTS)
        self._pid = os.getpid()

    def run(
        self, function: Callable[[A], None], argument: A, on_queued: Callable[[float], None]
    ) -> Coroutine[Any, Any, None]:
        """Return a coroutine that calls the function on a worker thread, through the bridge.

        The bridge copies the context variables, and async_to_sync in the function finds the event
        loop. Inside a ThreadSensitiveContext, the function runs on that context's thread.
        If the function may have to wait, `on_queued` is called with the number of seconds after
        which it counts as waiting.
        """
        if self._pid != os.getpid():
            self._start_anew()  # a forked child has neither the threads nor their requests
        if self.thread_sensitive or SyncToAsync.thread_sensitive_context.get(None) is not None:
            on_queued(UNSEEN_QUEUE)
            return self._sensitive(function, argument)
        if self._given is not None:
            on_queued(UNSEEN_QUEUE)
            return self._on_given(function, argument)
        if _current.get() is self:
            # The application sent this request to itself, through async_to_sync. It runs on the
            # thread that waits for it: waiting for another token could deadlock.
            return self._sensitive(function, argument)
        return self._run_with_token(function, argument, on_queued)

    async def _run_with_token(
        self, function: Callable[[A], None], argument: A, on_queued: Callable[[float], None]
    ) -> None:
        if not self._limiter.try_acquire():
            on_queued(0)
            await self._limiter.acquire()
        token = Token(self._limiter)
        outer = _current.set(self)
        try:
            await (self._on_threads or self._open())(token, function, argument)
        except BaseException:
            token.discard()  # in case no thread has started
            raise
        finally:
            _current.reset(outer)

    def _open(self) -> SyncToAsync[..., None]:
        if self._count == 1:
            # A LimitedExecutor may change its threads between two requests.
            self._threads = ThreadPoolExecutor(1, "asgiref-wsgi")
        else:
            self._threads = LimitedExecutor(self._count + STALLED_CLIENTS, "asgiref-wsgi")
        self._on_threads = SyncToAsync(Token.run, thread_sensitive=False, executor=self._threads)
        return self._on_threads

    def lend(self, loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
        """Return the context manager inside which a thread waits for a client.

        `loop` is the event loop of the thread's request.
        """
        if self._count == 1 or not self._limiter.is_held:
            return nullcontext()
        return _Loan(self._limiter, self._stalled, loop)

    def free(self) -> None:
        """Stop the idle threads; the next request starts new ones."""
        threads, self._threads, self._on_threads = self._threads, None, None
        if threads is not None:
            threads.shutdown(wait=False)


class _Loan:
    """A context manager during which a thread lends its token.

    Not a generator, because `contextlib` sets attributes on exceptions, and some reject that.
    """

    __slots__ = ("_is_lent", "_limiter", "_loop", "_stalled")

    def __init__(
        self,
        limiter: Limiter,
        stalled: threading.BoundedSemaphore,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._limiter = limiter
        self._loop = loop
        self._stalled = stalled
        self._is_lent = False

    def __enter__(self) -> None:
        self._is_lent = self._stalled.acquire(blocking=False)
        if self._is_lent:
            self._limiter.release()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_lent:
            self._limiter.acquire_in_thread(self._loop)
            self._stalled.release()


def _call(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)


@functools.cache
def shared_workers() -> Workers:
    """The workers of every WsgiToAsgiInstance that was created without a WsgiToAsgi."""
    return Workers()
