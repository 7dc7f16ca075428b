"""One call of a coroutine function from synchronous code.

    SCHEDULED ──start()───────> STARTED ──set_result(), set_exception()──> FINISHED
        └──────take_back()──> TAKEN_BACK ──assign() to another loop──> SCHEDULED

The thread that calls makes the record, schedules `start` on a loop and waits in its frame; the
loop's thread starts a task and sets the outcome. Both may want to decide the start: the waiting
thread takes it back when the loop turns out to have stopped, so that it can go to another loop, and
the loop's thread must not start it after that. The one who pops the permit decides.

The outcome is set once; whoever comes second is ignored. The frame is woken when the outcome is
there, unless the loop was made for this call (`on_finished`): then its leftovers come first, for as
long as there are tasks to cancel their sync code must find its thread waiting.

A task may be cancelled before its first step; the coroutine gets no chance to set an outcome then.
A task that is started eagerly has made its first step already, which also saves one turn of the
loop (nested 51 → 38 µs, at top level 65 → 40). Elsewhere the done-callback notices. (Python 3.11
cannot start tasks eagerly; there the step is taken out of the ready queue of asyncio's own loop.)
"""

import asyncio
import enum
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

from ._frames import CurrentThreadExecutor
from ._threads import PROCESS

__all__ = ["CoroutineCall", "CoroutineState", "LoopGone"]


class LoopGone(Exception):
    """The loop stopped before it started the coroutine."""


class CoroutineState(enum.Enum):
    SCHEDULED = "scheduled"
    STARTED = "started"
    TAKEN_BACK = "taken back"
    FINISHED = "finished"


# Members of an enumeration are looked up through its class, on 3.11 by a slow path.
_SCHEDULED, _STARTED = CoroutineState.SCHEDULED, CoroutineState.STARTED
_TAKEN_BACK, _FINISHED = CoroutineState.TAKEN_BACK, CoroutineState.FINISHED


class CoroutineCall:
    """The call that the thread of `frame` waits for. ``call_result`` of `AsyncToSync.main_wrap`."""

    __slots__ = (
        "_cancel_wanted",
        "_context",
        "_coroutine",
        "_epoch",
        "_error",
        "_permit",
        "_result",
        "_task",
        "awaitable",
        "frame",
        "function",
        "loop",
        "on_finished",
        "sender",
        "state",
    )

    def __init__(
        self, function: Callable[..., Any], frame: CurrentThreadExecutor, sender: threading.Thread
    ) -> None:
        self.function: Callable[..., Any] = function
        self.frame: CurrentThreadExecutor = frame
        #: The thread that calls, from which context variables move.
        self.sender: threading.Thread = sender
        frame.waits_for = self
        self.loop: asyncio.AbstractEventLoop | None = None
        self.state: CoroutineState = _SCHEDULED
        #: What the user's function returned.
        self.awaitable: Awaitable[Any] | None = None
        self.on_finished: Callable[[CoroutineCall], None] | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._permit = [True]
        self._cancel_wanted = False
        self._epoch = PROCESS.epoch
        self._task: asyncio.Task[None] | None = None
        self._result: Any = None
        self._error: BaseException | None = None

    # The calling thread.

    def prepare(
        self, coroutine: Coroutine[Any, Any, None], awaitable: Awaitable[Any], context: Context
    ) -> None:
        """Take over `coroutine`, which awaits `awaitable` in `context` and sets the outcome."""
        self._coroutine = coroutine
        self.awaitable = awaitable
        self._context = context

    def assign(
        self,
        loop: asyncio.AbstractEventLoop,
        on_finished: "Callable[[CoroutineCall], None] | None" = None,
    ) -> None:
        """Say which loop will run it. Before it is scheduled there."""
        self.loop = self.frame.loop = loop
        self.on_finished = on_finished
        if self.state is not _SCHEDULED:
            self.state = _SCHEDULED
            self._permit = [True]

    def take_back(self) -> bool:
        """Forbid the start; false if it has happened. Any thread."""
        try:
            self._permit.pop()
        except IndexError:
            return False
        self.state = _TAKEN_BACK
        return True

    def outcome(self) -> Any:
        """Return what the coroutine returned, or raise what it raised. Once only."""
        __traceback_hide__ = True
        error, result = self._error, self._result
        self._error = self._result = None
        if error is None:
            return result
        try:
            raise error
        finally:
            # This frame is part of the traceback.
            del error

    def discard(self) -> None:
        """Dispose of a coroutine that was not started."""
        for started_never in (self._coroutine, self.awaitable):
            close = getattr(started_never, "close", None)
            if close is not None:
                close()
        self._coroutine = self.awaitable = None

    def check(self) -> None:
        """See whether the outcome can still come; raise `LoopGone` if it takes another loop."""
        loop = self.loop
        if loop is None or self.state is _FINISHED:
            return
        if self._epoch != PROCESS.epoch:
            raise RuntimeError("async_to_sync waited for a loop of the process it was forked from")
        if self.state is _SCHEDULED:
            if not loop.is_running() and self.take_back():
                raise LoopGone
        elif loop.is_closed():
            # Nothing is left on that loop that could be ended.
            self.on_finished = None
            self.set_exception(RuntimeError("Event loop was closed before the coroutine was done."))

    @property
    def coroutine(self) -> Any:
        """The coroutine that runs or will, if any, for those who report on it."""
        task = self._task
        return self._coroutine if task is None else task.get_coro()

    @property
    def finished(self) -> bool:
        """Whether the outcome is there."""
        return self.state is _FINISHED

    @property
    def was_cancelled(self) -> bool:
        """Whether the outcome is that the coroutine was cancelled."""
        return isinstance(self._error, asyncio.CancelledError)

    # The loop's thread.

    def start(self) -> bool:
        """Run the coroutine as a task of the loop. False if that was taken back."""
        if asyncio._get_running_loop() is not self.loop:
            # A loop that had stopped, and lost this call to another one, runs again.
            return False
        try:
            self._permit.pop()
        except IndexError:
            return False
        assert self.loop is not None
        assert self._coroutine is not None
        assert self._context is not None
        if self._cancel_wanted:
            self.discard()
            self.set_exception(asyncio.CancelledError())
            return True
        self.state = _STARTED
        coroutine, self._coroutine = self._coroutine, None
        context, self._context = self._context, None
        try:
            task = _start_task(self.loop, coroutine, context)
        except BaseException as error:
            # The task factory of an application; other arrivals must not suffer from it.
            coroutine.close()
            self.discard()
            self.set_exception(error)
            return True
        if not self.finished:
            self._task = task
            task.add_done_callback(self._task_done)
        return True

    #: What `Inbox.deliver` asks for.
    arrive = start

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        """The task ended without an outcome: it was not begun, or a wrapper of main_wrap failed."""
        # What was not begun would complain of that.
        self.discard()
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            error = RuntimeError("main_wrap ended without setting an outcome")
        self.set_exception(asyncio.CancelledError() if error is None else error)

    def set_result(self, result: Any) -> None:
        if self.state is not _FINISHED:
            self._result = result
            self._finish()

    def set_exception(self, error: BaseException) -> None:
        if self.state is not _FINISHED:
            self._error = error
            self._finish()

    def _finish(self) -> None:
        self.state = _FINISHED
        self.awaitable = None
        task, self._task = self._task, None
        if task is not None:
            # Usually called in the task's last step: a callback would take a turn of the loop.
            task.remove_done_callback(self._task_done)
        if self.on_finished is None:
            self.frame.wake()
        else:
            self.on_finished(self)

    # Any thread.

    def cancel(self) -> None:
        """Cancel the coroutine: at once on the loop's own thread, else as soon as it turns."""
        # In this order: a thread that chooses a loop now will find the mark when it starts.
        self._cancel_wanted = True
        if self.loop is None:
            return
        if asyncio._get_running_loop() is self.loop:
            self._cancel()
            return
        try:
            self.loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            self._cancel_unstarted()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._cancel_unstarted()

    def _cancel_unstarted(self) -> None:
        if self.take_back():
            self.discard()
            self.set_exception(asyncio.CancelledError())


def _start_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
) -> "asyncio.Task[None]":
    if loop.get_task_factory() is not None:
        # Factories need not know of contexts.
        return context.run(loop.create_task, coroutine)
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
    task = loop.create_task(coroutine, context=context)
    if type(loop) is asyncio.SelectorEventLoop:
        _step_now(loop, task)
    return task


def _step_now(loop: Any, task: "asyncio.Task[None]") -> None:
    """Make the first step of `task`, which was just made, before the loop's next turn.

    It is what was scheduled last, unless another thread has scheduled something since.
    """
    handle = loop._ready.pop()
    if getattr(handle._callback, "__self__", None) is task:
        handle._run()
    else:
        loop._ready.append(handle)
