"""Threads that are blocked in `async_to_sync`, and the work that they run while they wait.

A blocked thread runs the thread-sensitive functions that its coroutine calls, so code that is bound
to that thread runs there, however deep in a call stack it is. Each blocked call has its own queue,
and a parent: the call that was current when it was made. The thread serves only the innermost
blocked call on its stack and that call's parents, because chains of calls must not run inside each
other's transactions. Work for another chain waits in its own queue until that chain's call is
innermost.

The invariant: a blocked call accepts work and closes under the same lock, so each accepted item is
run or discarded.
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

#: Seconds between checks of whether a wait can still end.
CHECK_SECONDS = 0.5

#: The executor of the current chain's thread-sensitive calls: the innermost blocked call, or the
#: executor that was assigned to ``AsyncToSync.executors.current``.
CURRENT_EXECUTOR: ContextVar[Executor | None] = ContextVar("asgiref.sync.current_executor")


class CurrentThreadExecutor(Executor):
    """An executor that runs functions on the thread that created it, while that thread is blocked.

    Applications find an instance in ``AsyncToSync.executors.current``. Other threads can `submit`
    functions to it.

    Args:
        old_executor: the enclosing blocked call, or None.
    """

    def __init__(self, old_executor: "CurrentThreadExecutor | None" = None) -> None:
        #: State of the thread that created this executor.
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
        #: The loop that runs the coroutine. This thread runs no calls from other loops.
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Whether the thread runs the loop itself, and so cannot serve this executor's queue.
        self.runs_loop_itself = False

    # Methods that any thread may call.

    @property
    def queued(self) -> int:
        """The number of calls queued here for the thread."""
        return len(self._items)

    def put(self, item: WorkItem) -> bool:
        """Queue `item` for the thread. Return False if the thread is no longer blocked here."""
        with self._lock:
            if self._is_closed or self._is_finished or self._pid != PROCESS.pid:
                return False
            self._items.append(item)
        self._wake()
        return True

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the thread that is blocked here.

        Other threads call this; the blocked thread itself must not.

        Returns:
            A `concurrent.futures.Future` of the function's result.

        Raises:
            RuntimeError: the calling thread is the blocked thread itself, or that thread is blocked
                neither here nor in an enclosing call.
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
            f"CurrentThreadExecutor already quit: no blocked thread is left to run {describe(fn)}"
        )

    def finish(self) -> None:
        """Wake the thread after it has run everything queued so far."""
        self._is_finished = True
        self._wake()

    def _wake(self) -> None:
        # An unlocked lock means that a wake-up is pending. After each wake-up the thread checks
        # everything, so one wake-up is enough, and a superfluous one is harmless.
        try:  # noqa: SIM105 - `suppress` takes three times as long
            self._wakeup.release()
        except RuntimeError:
            pass

    # Methods for the blocked thread.

    def run_until_future(self, future: "Future[object]") -> None:
        """Run submitted functions until `future` is done, on the thread that created this executor.

        Args:
            future: a `concurrent.futures.Future`.

        Raises:
            RuntimeError: another thread called this method.
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
        """Run the items queued for this call and its parents until `finish` is called.

        Args:
            check: called whenever `every` seconds pass without work. It may raise.
            every: the interval in seconds.

        Returns:
            False if `check` returned False, which means that nothing will call `finish`.
        """
        item: WorkItem | None = None
        try:
            while not self._is_finished:
                items = self._items or self._items_of_parent()
                if items:
                    # Only this thread removes items. Read the item before removing it, so that it
                    # is not lost if a signal handler raises in between.
                    item = items[0]
                    items.popleft()
                    item.run_and_deliver()
                    # Do not keep the item's arguments alive during the next wait.
                    item = None
                elif not self._wakeup.acquire(timeout=every) and not check():
                    return False
        finally:
            if item is not None:
                # A signal handler raised after the item was taken and before it ran. Delivering
                # twice is harmless.
                item.deliver()
        return True

    def close(self) -> None:
        """Run the queued items, and accept no more."""
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
        """Return the queue of the innermost parent on the same thread that has items."""
        executor = self.parent
        while executor is not None:
            if executor._items and executor._thread is self._thread:
                return executor._items
            executor = executor.parent
        return None
