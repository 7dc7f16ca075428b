"""`ThreadSensitiveContext`: an async block whose thread-sensitive calls share a thread of its own.

Two kinds, with different promises:

* Plain: the outermost block of a chain that is still open counts, inner ones join it. Its thread
  comes from the pool at the first call and goes back when the last of these blocks exits. A task
  that outlives them may still call; it gets another thread than they had, kept until the context is
  forgotten.
* With ``executor=``: this block counts, wherever it stands, also below a sync frame that waits
  (hidden from the block by setting the current executor to None). The executor is the
  application's; a task that outlives the block must not use it, and is refused.

Why inner blocks are counted: servers start the next request of a kept-alive connection in the
context of the one before, now and then (whoever calls ``transport.resume_reading()`` lends its
context to all that the transport calls back later). That request's block is then an inner one, of a
block that exits in the middle of the request. Were the thread given back at that moment, the rest
of the request would run on another one, and what it had opened on the first (a database
connection) would be dropped and never closed.

The context variable says which context a task is in, the context object holds its place. Both are
touched on the loop's thread; only a context that was copied to another thread's loop can be asked
for its place, joined and left from two threads at once, which `Lease` and a lock allow.
"""

import asyncio
import threading
from collections.abc import Iterator, MutableMapping
from concurrent.futures import Executor, Future
from contextvars import ContextVar, Token
from types import TracebackType

from ._calls import Call
from ._foreign import Submitter, submit_to
from ._frames import CURRENT_EXECUTOR
from ._leases import Lease
from ._markers import describe
from ._places import PLACES
from ._threads import ThreadRecord

__all__ = ["THREAD_SENSITIVE_CONTEXT", "ContextExecutors", "ThreadSensitiveContext"]

THREAD_SENSITIVE_CONTEXT: "ContextVar[ThreadSensitiveContext]" = ContextVar(
    "asgiref.sync.thread_sensitive_context"
)


class ThreadSensitiveContext:
    """Give the thread-sensitive calls of an ``async with`` block a thread of their own.

    A server enters one for each request: its synchronous code runs on one thread, so that what is
    bound to threads (database connections) works, and requests do not wait for each other.

    Args:
        executor: run the calls of this block there, even inside another context or below
            `async_to_sync`. It must run one call at a time on one thread, for example
            ``ThreadPoolExecutor(max_workers=1)``; it stays the caller's and is not shut down. Such
            a context can be entered once; tasks started inside must end before the block does,
            their later calls raise RuntimeError. Without it, a block inside another one does
            nothing.

    Leaving the block waits for a call that still runs (its task was cancelled), except with
    `executor`. If the leaving is itself cancelled, the call goes on and the thread is given back
    when it ends.

    >>> import asyncio, threading
    >>> from asgiref.sync import sync_to_async
    >>> async def request():
    ...     thread = sync_to_async(threading.current_thread)
    ...     async with ThreadSensitiveContext():
    ...         return await thread() is await thread()
    >>> asyncio.run(request())
    True
    """

    def __init__(self, *, executor: Executor | None = None) -> None:
        self._executor = executor
        self._token: Token[ThreadSensitiveContext] | None = None
        self._outer_executor: Executor | None = None
        #: Where the calls of this block run; None before the first one.
        self.executor_now: Lease | Submitter | None = None
        self._had: Lease | None = None
        self._exited = False
        #: The block whose thread this one shares; None for an outermost one.
        self._joined: ThreadSensitiveContext | None = None
        #: How many blocks share the thread of this one, itself included.
        self._sharing = 0
        self._lock = threading.Lock()

    async def __aenter__(self) -> "ThreadSensitiveContext":
        if self._executor is not None:
            self._enter_with_executor(self._executor)
            return self
        outer = THREAD_SENSITIVE_CONTEXT.get(None)
        if outer is not None and outer._executor is not None:
            return self  # which keeps its thread, and refuses calls after its exit
        if outer is not None and outer._join():
            self._joined = outer
        else:
            self._token = THREAD_SENSITIVE_CONTEXT.set(self)
            with self._lock:
                self._sharing += 1
        return self

    def _join(self) -> bool:
        """Have the thread kept until `_leave`; False if all blocks that shared it were left."""
        with self._lock:
            if self._sharing:
                self._sharing += 1
            return self._sharing > 0

    def _leave(self) -> "Future[None] | None":
        """Give the thread back if nobody else shares it; return what `Lease.give_back` does."""
        with self._lock:
            self._sharing -= 1
            if self._sharing:
                return None
            place, self.executor_now = self.executor_now, None
        if not isinstance(place, Lease):
            return None
        self._had = place
        return place.give_back()

    def _enter_with_executor(self, executor: Executor) -> None:
        if self._token is not None:
            raise RuntimeError(f"{self!r} is already entered: make one context for each block")
        if self._exited:
            raise RuntimeError(
                f"{self!r} has an executor and cannot be entered again: tasks that outlived its "
                "first block would get into the second"
            )
        self._token = THREAD_SENSITIVE_CONTEXT.set(self)
        self.executor_now = executor
        self._outer_executor = CURRENT_EXECUTOR.get(None)
        CURRENT_EXECUTOR.set(None)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = None
        if self._joined is not None:
            joined, self._joined = self._joined, None
            running = joined._leave()
        elif self._token is not None:
            THREAD_SENSITIVE_CONTEXT.reset(self._token)
            self._token = None
            if self._executor is None:
                running = self._leave()
            else:
                self._exited = True
                self.executor_now = None
                CURRENT_EXECUTOR.set(self._outer_executor)
                self._outer_executor = None
        if running is not None:
            await asyncio.wrap_future(running)

    def put(self, call: Call, thread: ThreadRecord) -> None:
        """Queue `call` on the thread of this context. RuntimeError where that cannot be."""
        place = self.executor_now
        if place is None:
            place = self._make_place()
        if not isinstance(place, Lease):
            submit_to(place, call)
        elif thread.call is not None and place.is_current_thread():
            raise RuntimeError(
                f"{describe(call.function)} would deadlock: it must run on the thread of "
                f"{self!r}, which is occupied by the code that waits for it"
            )
        else:
            place.put(call)

    def _make_place(self) -> Lease:
        if self._exited:
            raise RuntimeError(
                f"{self!r} has exited: tasks started inside a context with an executor must finish "
                "before it does"
            )
        avoid = None if self._had is None else self._had.last_worker
        self.executor_now = lease = Lease(PLACES.pool, avoid)
        return lease


class ContextExecutors(MutableMapping[ThreadSensitiveContext, Submitter]):
    """``SyncToAsync.context_to_thread_executor``: a view of what each context holds."""

    def __getitem__(self, context: ThreadSensitiveContext) -> Submitter:
        place = context.executor_now
        if place is None:
            raise KeyError(context)
        return place

    def __setitem__(self, context: ThreadSensitiveContext, executor: Submitter) -> None:
        context.executor_now = executor

    def __delitem__(self, context: ThreadSensitiveContext) -> None:
        self[context]
        context.executor_now = None

    def __iter__(self) -> Iterator[ThreadSensitiveContext]:
        raise TypeError("the contexts hold their executors and are not listed: ask for one by key")

    def __len__(self) -> int:
        raise TypeError("the contexts hold their executors and are not counted: ask for one by key")
