"""`ThreadSensitiveContext`: an async block whose thread-sensitive calls share a thread of its own.

Two kinds, with different promises:

* Plain: the outermost block of a chain counts, inner ones do nothing. Its thread comes from the
  pool at the first call and goes back when the block exits. A task that outlives the block may
  still call; it gets another thread than the block had, kept until the context is forgotten.
* With ``executor=``: this block counts, wherever it stands, also below a sync frame that waits
  (hidden from the block by setting the current executor to None). The executor is the
  application's; a task that outlives the block must not use it, and is refused.

The context variable says which context a task is in, the context object holds its place. Both are
touched on the loop's thread; only a context that was copied to another thread's loop can be asked
for its place from two threads at once, which `Lease` allows.
"""

import asyncio
from collections.abc import Iterator, MutableMapping
from concurrent.futures import Executor
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

    async def __aenter__(self) -> "ThreadSensitiveContext":
        if self._executor is not None:
            self._enter_with_executor(self._executor)
        elif THREAD_SENSITIVE_CONTEXT.get(None) is None:
            self._token = THREAD_SENSITIVE_CONTEXT.set(self)
        return self

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
        if self._token is None:
            return
        THREAD_SENSITIVE_CONTEXT.reset(self._token)
        self._token = None
        place, self.executor_now = self.executor_now, None
        if self._executor is not None:
            self._exited = True
            CURRENT_EXECUTOR.set(self._outer_executor)
            self._outer_executor = None
        elif isinstance(place, Lease):
            self._had = place
            running = place.give_back()
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
