"""Event loops for `async_to_sync` at top level: outside functions that `sync_to_async` runs.

A loop thread runs one top-level `async_to_sync` call on the loop that it keeps, or it runs the loop
of one `AsyncSingleThreadContext`. After a call it keeps the loop only if the loop shows no trace of
use. Otherwise it cleans up like `asyncio.run`: it cancels and awaits the tasks, shuts down
asynchronous generators and the default executor, and closes the loop.

The invariant: the caller stays blocked until the cleanup is done, because cancelled tasks may need
to run synchronous code on its thread; and the caller is always woken.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable, MutableMapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from ._asyncio_internals import (
    LoopFactory,
    ReusableLoop,
    new_event_loop,
    run_loop,
    run_one_turn,
)
from ._blocking import CurrentThreadExecutor
from ._calls import CoroutineCall
from ._limits import forget_limiter
from ._thread_pool import SubmittedCall, ThreadPool, WorkItem
from ._thread_state import PROCESS, thread_state

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: The type of ``AsyncToSync.loop_thread_executors``.
LoopExecutors = MutableMapping[asyncio.AbstractEventLoop, Executor]


def _take_loop(factory: LoopFactory | None) -> ReusableLoop:
    """Return the loop that this thread kept for its next call, or a new one."""
    state = thread_state()
    reusable = state.loop_to_reuse
    if reusable is not None and not reusable.is_made_by(factory):
        _close_loop()
        reusable = None
    state.loop_to_reuse = None
    if reusable is None:
        return ReusableLoop(factory)
    reusable.resume()
    return reusable


def _close_loop() -> None:
    state = thread_state()
    reusable, state.loop_to_reuse = state.loop_to_reuse, None
    if reusable is not None:
        reusable.resume()
        asyncio.set_event_loop(None)
        reusable.loop.close()


#: The threads that run loops. At exit, the interpreter does not wait for them, because a loop may
#: run indefinitely.
LOOP_THREADS = ThreadPool("asgiref-loop", _close_loop, is_waited_for_at_exit=False)
LOOP_THREADS.end_idle_before_fork()

_context_loops: "weakref.WeakSet[ContextLoop]" = weakref.WeakSet()


def _abandon_context_loops() -> None:
    """At interpreter exit, stop the loops of blocks that were never exited."""
    for context_loop in list(_context_loops):
        context_loop.abandon()


# Runs before the hook that `_thread_pool` registers, which waits for threads.
with suppress(RuntimeError):  # imported while the interpreter is exiting
    threading._register_atexit(_abandon_context_loops)  # type: ignore[attr-defined]


class TopLevelCall(WorkItem):
    """Runs one coroutine call on a separate loop, on the thread that calls `run`.

    Args:
        call: the call to run.
        executors: the mapping in which to record the blocked thread while the loop runs.
        factory: creates the loop. None means the factory that `set_loop_factory` chose.
        keep_loop: keep the loop for the thread's next call. Pass False outside loop threads.
    """

    __slots__ = ("_call", "_executors", "_factory", "_keep_loop")

    def __init__(
        self,
        call: CoroutineCall,
        executors: LoopExecutors,
        factory: LoopFactory | None = None,
        keep_loop: bool = True,
    ) -> None:
        self._call = call
        self._factory = factory
        self._executors = executors
        self._keep_loop = keep_loop
        call.own_loop()

    def run(self) -> None:
        if self._call.is_over:  # cancelled before a thread took it
            return
        try:
            self._run_on(_take_loop(self._factory))
        except BaseException as error:
            self._call.replace_outcome(error)

    def _run_on(self, reusable: ReusableLoop) -> None:
        loop, call = reusable.loop, self._call
        self._executors[loop] = call.executor
        try:
            if call.assign(loop):
                loop.call_soon(call.start)
                run_loop(loop)
                call.set_exception(
                    RuntimeError("Event loop stopped before the coroutine was done.")
                )
        except BaseException as error:
            # A task raised KeyboardInterrupt or SystemExit, which loops do not catch.
            call.replace_outcome(error)
        finally:
            self._leave(reusable)

    def _leave(self, reusable: ReusableLoop) -> None:
        """Keep the loop for the next call, or shut down everything on it and close it."""
        is_kept = False
        try:
            forget_limiter(reusable.loop)
            is_kept = self._keep_loop and reusable.suspend()
            if not is_kept:
                # The task's done callbacks may start tasks, which `shut_down` must find.
                run_one_turn(reusable.loop)
        finally:
            try:
                if is_kept:
                    thread_state().loop_to_reuse = reusable
                else:
                    asyncio.set_event_loop(None)
                    shut_down(reusable.loop)
            finally:
                self._executors.pop(reusable.loop, None)

    def deliver(self) -> None:
        # Drop the loop here, so that it is not finalized in the blocked thread: the interpreter
        # discards a KeyboardInterrupt raised in a finalizer.
        self._call.forget_loop()
        self._call.executor.finish()

    def discard(self, error: BaseException) -> None:
        self._call.set_exception(error)
        self.deliver()


class ContextLoop(WorkItem, Executor):
    """The loop of one `AsyncSingleThreadContext`: it runs on a loop thread until `end` is called.

    It is also an executor, which runs submitted functions on the loop's thread.
    """

    def __init__(self, executors: LoopExecutors) -> None:
        self._pid = PROCESS.pid
        self._executors = executors
        self._lock = threading.RLock()
        self._calls: weakref.WeakSet[CoroutineCall] = weakref.WeakSet()
        self._is_running = self._has_ended = False
        self._leaver: CurrentThreadExecutor | None = None
        self.loop = new_event_loop()

    # Methods for the threads that use the context.

    @property
    def is_usable(self) -> bool:
        """Whether the loop is running or will run in this process."""
        return not self._has_ended and self._pid == PROCESS.pid

    def start(self, call: CoroutineCall) -> bool:
        """Start `call` on the loop.

        Return False if the loop has ended or the call no longer needs a loop.
        """
        with self._lock:
            if self._has_ended or not call.assign(self.loop):
                return False
            self._calls.add(call)
            self._executors[self.loop] = call.executor
        self.loop.call_soon_threadsafe(call.start)
        return True

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the loop's thread, between the loop's other callbacks."""
        call = SubmittedCall(partial(fn, *args, **kwargs))
        self.loop.call_soon_threadsafe(call.run_and_deliver)
        return call.future  # type: ignore[return-value]

    def end(self, leaver: CurrentThreadExecutor) -> None:
        """Shut down the loop as `asyncio.run` does, then wake `leaver`."""
        with self._lock:
            self._leaver = leaver
            leaver.loop = self.loop
            if self._has_ended:
                leaver.finish()
                return
            self._executors[self.loop] = leaver
            self.loop.call_soon_threadsafe(self.loop.stop)

    def abandon(self) -> None:
        """Stop the loop without waiting until it has stopped."""
        with self._lock, suppress(RuntimeError):
            if not self.is_usable:
                return
            if self._is_running:
                self.loop.call_soon_threadsafe(self.loop.stop)
            else:
                self._has_ended = True
                self.loop.close()

    # Methods for the loop's thread.

    def run(self) -> None:
        with self._lock:
            if self._has_ended:
                return
            self._is_running = True
        _context_loops.add(self)
        error: BaseException = RuntimeError("Event loop stopped before the coroutine was done.")
        asyncio.set_event_loop(self.loop)
        try:
            run_loop(self.loop)
        except BaseException as escaped:
            # A task raised KeyboardInterrupt or SystemExit, which loops do not catch.
            error = escaped
        with self._lock:
            # `start` refuses calls from now on, so this list is complete.
            calls: list[CoroutineCall] = [] if self._leaver is not None else list(self._calls)
            self._has_ended = True
        for call in calls:
            call.set_exception(error)
        del error
        asyncio.set_event_loop(None)
        shut_down(self.loop)

    def deliver(self) -> None:
        with self._lock:
            self._has_ended = True
            self._executors.pop(self.loop, None)
            if self._leaver is not None:
                self._leaver.finish()

    def discard(self, error: BaseException) -> None:
        self.deliver()
        for call in self._calls:
            call.set_exception(error)
        self.loop.close()


def shut_down(loop: asyncio.AbstractEventLoop) -> None:
    """Shut down everything on `loop`, which has stopped, and close it, as `asyncio.run` does.

    If a task raises KeyboardInterrupt or SystemExit, complete the cleanup and then raise it.
    """
    escaped: BaseException | None = None
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        # Each exception that escapes finishes at least one task.
        for _ in range(len(tasks) + 1):
            try:
                _wait_for(loop, tasks)
                break
            except BaseException as error:
                escaped = error if escaped is None else escaped
        _report_failures(loop, tasks)
        run_loop(loop, loop.create_task(loop.shutdown_asyncgens()))
        run_loop(loop, loop.create_task(loop.shutdown_default_executor()))
        if escaped is not None:
            raise escaped
    finally:
        del escaped
        loop.close()


def _wait_for(loop: asyncio.AbstractEventLoop, tasks: "set[asyncio.Task[object]]") -> None:
    pending = [task for task in tasks if not task.done()]
    if pending:
        run_loop(loop, asyncio.gather(*pending, return_exceptions=True))


def _report_failures(loop: asyncio.AbstractEventLoop, tasks: "set[asyncio.Task[object]]") -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception while async_to_sync cancelled the remaining tasks"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
