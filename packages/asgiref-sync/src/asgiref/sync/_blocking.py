"""A thread that is blocked in `async_to_sync`, and the work that it runs meanwhile.

A thread blocked in `async_to_sync` runs the thread-sensitive functions that its coroutine calls:
so code in the middle of a stack of layers gets back to the thread that it must run on. Each blocked
call has a queue of its own, and a parent: the call that was current where it was made. The thread
serves the innermost blocked call on its stack and that one's parents, and nothing else: two chains
of calls on one thread must not run inside each other's transactions, so the work of another chain
waits in its own queue until its call is innermost again.

The invariant: a blocked call accepts work and closes under the same lock, so all that it accepted
is run or discarded.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, TypeVar

from ._callables import describe
from ._thread_pool import SubmittedCall, WorkItem
from ._thread_state import PROCESS, ThreadState, thread_state_at_entry

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Seconds between two checks whether the end of a wait can still come.
CHECK_SECONDS = 0.5

#: Where thread-sensitive calls of the current chain run: the innermost blocked call, or whatever
#: executor was assigned to ``AsyncToSync.executors.current``.
CURRENT_EXECUTOR: ContextVar[Executor | None] = ContextVar("asgiref.sync.current_executor")


class CurrentThreadExecutor(Executor):
    """An executor that runs what is submitted on the thread that made it, while that is blocked.

    Applications meet instances as ``AsyncToSync.executors.current``, and may `submit` to them from
    other threads.

    Args:
        old_executor: the blocked call outside this one, or None.
    """

    def __init__(self, old_executor: "CurrentThreadExecutor | None" = None) -> None:
        #: What the thread that made this does for the bridge.
        self.state: ThreadState = thread_state_at_entry()
        self._pid = self.state.pid
        self._thread = self.state.thread
        self._wakeup = self.state.wakeup
        self._lock = threading.Lock()
        self._items: deque[WorkItem] = deque()
        self._is_finished = False
        self._is_closed = False
        while old_executor is not None and old_executor._is_closed:
            old_executor = old_executor.parent
        self.parent: CurrentThreadExecutor | None = old_executor
        #: The loop that runs the coroutine. Calls from other loops are not for this thread.
        self.loop: asyncio.AbstractEventLoop | None = None
        #: The loop runs on the thread itself, which can therefore not wait for anything.
        self.is_inline = False

    # Any thread.

    @property
    def queued(self) -> int:
        """How many calls wait for the thread here."""
        return len(self._items)

    def put(self, item: WorkItem) -> bool:
        """Queue `item` for the thread; false if it is not blocked here any more."""
        with self._lock:
            if self._is_closed or self._is_finished or self._pid != PROCESS.pid:
                return False
            self._items.append(item)
        self._wake()
        return True

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the thread that is blocked here, for any other thread.

        Returns:
            A `concurrent.futures.Future` of what it returns.

        Raises:
            RuntimeError: on that thread itself, and when it is blocked neither here nor in a call
                outside this one.
        """
        if self._thread is threading.current_thread():
            raise RuntimeError(
                f"{describe(fn)} was submitted to a CurrentThreadExecutor from the executor's own "
                "thread, which cannot wait for itself: call it directly"
            )
        PROCESS.refresh()
        call = SubmittedCall(partial(fn, *args, **kwargs))
        executor: CurrentThreadExecutor | None = self
        while executor is not None:
            if executor.put(call):
                return call.future  # type: ignore[return-value]
            executor = executor.parent
        raise RuntimeError(
            "CurrentThreadExecutor already quit: no thread is blocked that could run "
            f"{describe(fn)}"
        )

    def finish(self) -> None:
        """Let the thread go on once it has run what was queued by now."""
        self._is_finished = True
        self._wake()

    def _wake(self) -> None:
        # Already released means that a wake-up is on its way. The thread looks at everything after
        # each one, so one is enough, and a superfluous one does no harm.
        try:  # noqa: SIM105 - `suppress` takes three times as long
            self._wakeup.release()
        except RuntimeError:
            pass

    # The thread that is blocked.

    def run_until_future(self, future: "Future[object]") -> None:
        """Run what is submitted until `future` is done. Only for the thread that made this.

        Args:
            future: a `concurrent.futures.Future`.

        Raises:
            RuntimeError: on another thread.
        """
        if self._thread is not threading.current_thread():
            raise RuntimeError(
                "a CurrentThreadExecutor can only run in the thread that made it, not in "
                f"{threading.current_thread().name}"
            )
        future.add_done_callback(lambda _: self.finish())
        try:
            self.serve(lambda: True)
        finally:
            self.close()

    def serve(self, check: Callable[[], bool], every: float = CHECK_SECONDS) -> bool:
        """Run what is queued for this call and its parents until `finish` is called.

        Args:
            check: called after `every` seconds with nothing to do. It may raise.
            every: in seconds.

        Returns:
            False if `check` has: then nothing will call `finish`.
        """
        item: WorkItem | None = None
        try:
            while not self._is_finished:
                items = self._items or self._items_of_parent()
                if items:
                    # Only this thread takes. In this order: a signal handler may raise in between.
                    item = items[0]
                    items.popleft()
                    item.run_and_deliver()
                    # While the thread waits it must not keep this item's arguments.
                    item = None
                elif not self._wakeup.acquire(timeout=every) and not check():
                    return False
        finally:
            if item is not None:
                # Interrupted between the taking and the running. Delivering twice does no harm.
                item.deliver()
        return True

    def close(self) -> None:
        """Run what was queued in time, and accept nothing more."""
        item: WorkItem | None = None
        try:
            while True:
                with self._lock:
                    self._is_closed = not self._items
                if self._is_closed:
                    return
                item = self._items[0]
                self._items.popleft()
                item.run_and_deliver()
                item = None
        finally:
            self._is_closed = True
            if item is not None:
                item.deliver()
            while self._items:
                self._items.popleft().discard(
                    RuntimeError("the thread that would have run this call was interrupted")
                )

    def _items_of_parent(self) -> deque[WorkItem] | None:
        """Return the queue of a parent on the same thread that has items."""
        executor = self.parent
        while executor is not None:
            if executor._items and executor._thread is self._thread:
                return executor._items
            executor = executor.parent
        return None
