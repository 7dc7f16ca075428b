"""The two kinds of call across the bridge, and the one state machine that both follow.

    QUEUED ───> RUNNING ───> FINISHED
       ├──────────────────────┘ (refused, or run by another process)
       └──────> CANCELLED

A `FunctionCall` is made on an event loop's thread and runs on another thread; a `CoroutineCall` is
made by a synchronous thread and runs as a task of an event loop. Both sides may want to decide what
becomes of a call, so every transition is made under the call's lock, and each call has exactly one
outcome: a value or an exception.
"""

import asyncio
import enum
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._asyncio_internals import Completions, create_task
from ._blocking import CurrentThreadExecutor
from ._callables import describe
from ._contextvars import adapt_values
from ._thread_pool import WorkItem
from ._thread_state import PROCESS, ThreadState, state_of_worker

if TYPE_CHECKING:
    from ._limits import Limiter

__all__ = [
    "Call",
    "CallState",
    "CoroutineCall",
    "ExcInfo",
    "FunctionCall",
    "LoopStopped",
    "exc_info_of",
    "run_handling",
    "run_handling_coroutine",
]

_R = TypeVar("_R")

#: `thread_handler` of `SyncToAsync`, as integrations override it.
Handler = Callable[..., Any]

#: The result of `sys.exc_info()`.
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class CallState(enum.Enum):
    """A state, and the states from which a call can move to it."""

    QUEUED = "queued", ()
    RUNNING = "running", ("queued",)
    CANCELLED = "cancelled", ("queued",)
    FINISHED = "finished", ("queued", "running")

    def __init__(self, label: str, sources: tuple[str, ...]) -> None:
        self.label = label
        self.sources = sources


# Looking up a member through its class takes a slow path on 3.11.
_QUEUED, _RUNNING = CallState.QUEUED, CallState.RUNNING
_CANCELLED, _FINISHED = CallState.CANCELLED, CallState.FINISHED

_NO_VALUE = object()


class Call:
    """What both kinds of call have: the callable, a state, and an outcome that is taken once."""

    __slots__ = ("__weakref__", "_error", "_lock", "_value", "function", "state")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] = function
        self.state: CallState = _QUEUED
        self._lock = threading.Lock()
        self._value: Any = _NO_VALUE
        self._error: BaseException | None = None

    def _advance(self, target: CallState) -> bool:
        """Move to `target`; false if that is not possible (any more)."""
        with self._lock:
            if self.state.label not in target.sources:
                return False
            self.state = target
            return True

    def _finish(
        self, value: Any, error: BaseException | None, target: CallState = _FINISHED
    ) -> bool:
        """Move to `target` with this outcome; false if the call has one."""
        with self._lock:
            if self.state.label not in target.sources:
                return False
            self._value, self._error = value, error
            self.state = target
            return True

    @property
    def is_queued(self) -> bool:
        return self.state is _QUEUED

    @property
    def is_finished(self) -> bool:
        """Whether the outcome is there."""
        return self.state is _FINISHED or self.state is _CANCELLED

    def take_outcome(self) -> Any:
        """Return the value of the call, or raise its exception. Once only."""
        __traceback_hide__ = True
        error, value = self._error, self._value
        # The traceback of an exception leads to frames that refer to this call.
        self._error, self._value = None, _NO_VALUE
        if error is None:
            if value is _NO_VALUE:
                raise RuntimeError(f"the call of {describe(self.function)} was interrupted")
            return value
        try:
            raise error
        finally:
            del error


class FunctionCall(Call, WorkItem):
    """A call of a synchronous function for the task that awaits it on a loop."""

    __slots__ = (
        "_is_delivered",
        "_nested",
        "_waiter",
        "args",
        "before",
        "completions",
        "context",
        "future",
        "handled",
        "handler",
        "has_arrived",
        "kwargs",
        "limiter",
        "loop",
        "sender",
        "timer",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
        before: Context,
        handled: BaseException | None,
        completions: Completions,
        sender: threading.Thread | None,
    ) -> None:
        super().__init__(function)
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.context: Context = context
        #: A snapshot of the caller's context, or of `context` once its values were adapted.
        self.before: Context = before
        #: The exception that the caller is handling.
        self.handled: BaseException | None = handled
        self.completions: Completions = completions
        self.loop: asyncio.AbstractEventLoop = completions.loop
        #: The thread that the values in `context` leave, if they must be adapted.
        self.sender: threading.Thread | None = sender
        #: Set when an integration hooked the call.
        self.handler: Handler | None = None
        #: The limiter of which the running call holds a token.
        self.limiter: Limiter | None = None
        #: The future of the foreign executor that the call is queued on.
        self.future: Future[Any] | None = None
        #: A timer of the loop, to cancel when the call is over.
        self.timer: asyncio.TimerHandle | None = None
        #: Whether the loop knows of the outcome.
        self.has_arrived: bool = False
        self._is_delivered = False
        self._waiter: asyncio.Future[None] | None = None
        # The coroutine calls that the function is blocked in, the innermost last. The function's
        # thread replaces the tuple as a whole; the loop's thread reads it.
        self._nested: tuple[CoroutineCall, ...] = ()

    # The thread that runs the function.

    def run(self) -> None:
        with self._lock:
            if self.state is not _QUEUED:
                return
            self.state = _RUNNING
        state = state_of_worker()
        outer = state.call, state.parent_loop, state.parent_pid
        try:
            state.call, state.parent_loop, state.parent_pid = self, self.loop, state.pid
            self._value = self._call_function()
        except BaseException as error:
            self._error = _without_own_frame(error)
        finally:
            state.call, state.parent_loop, state.parent_pid = outer
            del outer

    def _call_function(self) -> Any:
        if self.handler is not None:
            child = partial(self.function, *self.args, **self.kwargs)
            return self.handler(self.loop, exc_info_of(self.handled), [], self._run_child, child)
        if self.handled is None and self.sender is None:
            return self.context.run(self.function, *self.args, **self.kwargs)
        child = partial(self.function, *self.args, **self.kwargs)
        if self.handled is None:
            return self._run_child(child)
        return run_handling(self.handled, partial(self._run_child, child))

    def _run_child(self, child: Callable[[], Any]) -> Any:
        if self.sender is not None:
            self.before = self.context.run(adapt_values, self.sender)
        return self.context.run(child)

    def add_nested(self, call: "CoroutineCall") -> None:
        """Note that the function, on the calling thread, is about to be blocked in `call`."""
        self._nested = (*self._nested, call)

    def remove_nested(self, call: "CoroutineCall") -> None:
        self._nested = tuple(other for other in self._nested if other is not call)

    # Any thread.

    def deliver(self) -> None:
        if self.state is not _FINISHED:
            self._advance(_FINISHED)
        if self.state is _FINISHED and not self._is_delivered:
            # In this order: a signal handler may raise in between, and twice does no harm.
            self.completions.deliver(self)
            self._is_delivered = True

    def discard(self, error: BaseException) -> None:
        if self._finish(_NO_VALUE, error):
            self.deliver()

    def set_result(self, value: Any) -> None:
        """Finish the call, which another process or interpreter has run."""
        if self._finish(value, None):
            self.deliver()

    # The loop's thread.

    def arrive(self) -> None:
        self.has_arrived = True
        self.future = None  # a foreign executor's future leads back here, by its callback
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self.completions.wake(waiter)

    def new_waiter(self) -> "asyncio.Future[None]":
        """Return a future to await until the outcome has arrived."""
        waiter = self._waiter = self.loop.create_future()
        return waiter

    def abandon(self) -> None:
        """See that the function never starts, if it has not."""
        if self._advance(_CANCELLED):
            future, self.future = self.future, None
            if future is not None:
                future.cancel()

    def cancel(self, cancellation: asyncio.CancelledError) -> "list[CoroutineCall]":
        """Stop the call as far as possible: `cancellation` was raised in the task that awaits it.

        A queued call never starts. A running function cannot be stopped; but if it is blocked in
        `async_to_sync`, the coroutine is cancelled and the function gets to see that.

        Returns:
            The coroutine calls to which the cancellation was passed on. If there is none, the task
            must not wait any longer.
        """
        self.abandon()
        if self.state is not _RUNNING:
            return []
        return [call for call in self._nested if call.cancel(*cancellation.args[:1])]


class LoopStopped(Exception):
    """The loop stopped before it started the coroutine."""


class CoroutineCall(Call):
    """A call of a coroutine function for a thread that is blocked until it is finished.

    Integrations meet it as ``call_result``, an argument of `AsyncToSync.main_wrap`.
    """

    __slots__ = (
        "_awaitable",
        "_context",
        "_coroutine",
        "_is_held",
        "_pid",
        "_task",
        "executor",
        "loop",
        "received_cancellation",
        "sender",
    )

    def __init__(
        self, function: Callable[..., Any], executor: CurrentThreadExecutor, state: ThreadState
    ) -> None:
        super().__init__(function)
        #: The thread that is blocked, as an executor.
        self.executor: CurrentThreadExecutor = executor
        #: That thread, which context variables leave.
        self.sender: threading.Thread = state.thread
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Whether user code got to see a cancellation from outside.
        self.received_cancellation: bool = False
        self._pid = state.pid
        self._awaitable: Awaitable[Any] | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_held = False

    # The calling thread.

    def prepare(
        self, coroutine: Coroutine[Any, Any, None], awaitable: Awaitable[Any], context: Context
    ) -> None:
        """Take over `coroutine`, which awaits `awaitable` in `context` and sets the outcome."""
        self._coroutine, self._awaitable, self._context = coroutine, awaitable, context

    def assign(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Say which loop shall start the coroutine; false if it does not need one any more."""
        with self._lock:
            if self.state is not _QUEUED:
                return False
            self.loop = self.executor.loop = loop
            return True

    def hold(self) -> None:
        """Have the outcome stop the loop, which is the call's own, and not wake the thread."""
        self._is_held = True

    def check(self) -> None:
        """See whether the outcome can still come. Raises LoopStopped if it takes another loop."""
        loop = self.loop
        if self._pid != os.getpid():
            raise RuntimeError("async_to_sync waits for a loop of the process it was forked from")
        if self._is_held:
            return  # a loop thread sees to the outcome
        if self.is_finished:
            # A signal handler may have raised between the outcome and the wake-up.
            self.executor.finish()
            return
        if loop is None:
            return
        if self.state is _QUEUED and not loop.is_running():
            if self.assign(None):
                raise LoopStopped
        elif loop.is_closed():
            self.set_exception(RuntimeError("Event loop was closed before the coroutine was done."))
        elif PROCESS.is_exiting and not loop.is_running():
            self.set_exception(RuntimeError("Event loop was stopped and the interpreter exits."))

    def discard(self) -> None:
        """Close a coroutine that was not started."""
        if self._coroutine is None and self._awaitable is None:
            return
        for never_started in (self._coroutine, self._awaitable):
            if isinstance(never_started, Coroutine):
                never_started.close()
        self._coroutine = self._awaitable = None

    # The loop's thread.

    def arrive(self) -> None:
        """Start the coroutine as a task of the running loop, unless that was called off."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.state is not _QUEUED or self.loop is not loop:
                if self.loop is loop and self.is_finished and self._is_held:
                    loop.stop()  # called off after this loop was assigned, when it did not run yet
                return
            self.state = _RUNNING
        coroutine, self._coroutine = self._coroutine, None
        context, self._context = self._context, None
        assert coroutine is not None
        assert context is not None
        try:
            task = create_task(loop, coroutine, context)
        except BaseException as error:
            # The application's task factory. Others on the loop must not suffer from it.
            coroutine.close()
            self.discard()
            self.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            if not self.is_finished:
                self._task = task
                task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        """Set an outcome for a task that ended without: cancelled before its first step, say."""
        self.discard()
        if task.cancelled():
            self.set_exception(asyncio.CancelledError())
        else:
            error = task.exception()
            if error is None:
                error = RuntimeError("main_wrap ended without setting an outcome")
            self.set_exception(error)

    def set_result(self, result: Any) -> None:
        """Finish the call with `result`, if it is not finished yet. Any thread."""
        if self._finish(result, None):
            self._outcome_is_there()

    def set_exception(self, error: BaseException) -> None:
        """Finish the call with `error`, if it is not finished yet. Any thread."""
        if self._finish(_NO_VALUE, error):
            self._outcome_is_there()

    def replace_outcome(self, error: BaseException) -> None:
        """Finish the call with `error`, even if it has an outcome already."""
        self.set_exception(error)
        self._value, self._error = _NO_VALUE, error

    def _outcome_is_there(self) -> None:
        if self._coroutine is None:  # else neither has started, and `discard` closes both
            self._awaitable = None
        task, self._task = self._task, None
        if task is not None:
            # Usually this is the task's last step: the callback would take a turn of the loop.
            task.remove_done_callback(self._task_done)
        if not self._is_held:
            self.executor.finish()
        elif self.loop is not None and self.loop.is_running():
            self.loop.stop()

    # Any thread.

    @property
    def coroutine(self) -> object:
        """The coroutine that runs, or will run, for those who report on it."""
        task = self._task
        return self._coroutine if task is None else task.get_coro()

    def cancel(self, *message: Any) -> bool:
        """Cancel the coroutine; true if it will see that, or if only its loop's thread can tell."""
        if self._finish(_NO_VALUE, asyncio.CancelledError(*message), _CANCELLED):
            self.received_cancellation = True
            self.discard()
            self.executor.finish()
            return True
        loop = self.loop
        if self.state is not _RUNNING or loop is None:
            # One that was cancelled already is on its way to the function, which will see it.
            self.received_cancellation = isinstance(self._error, asyncio.CancelledError)
            return self.received_cancellation
        if asyncio._get_running_loop() is loop:
            return self._cancel_task(*message)
        try:
            loop.call_soon_threadsafe(self._cancel_task, *message)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _cancel_task(self, *message: Any) -> bool:
        """On the loop's thread: cancel the task, if it has not set an outcome."""
        task = self._task
        if task is None or self.is_finished or not task.cancel(*message):
            return False
        self.received_cancellation = True
        return True


# Exceptions that belong to users. Their classes may refuse attributes, or do things when one is set
# (a frozen dataclass, say), so the bridge goes by the base class, past whatever they define.

_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]


def exc_info_of(error: BaseException | None) -> ExcInfo:
    """Return the result of `sys.exc_info()` while `error` is handled."""
    return (None, None, None) if error is None else (type(error), error, _TRACEBACK.__get__(error))


def run_handling(error: BaseException, function: Callable[[], _R]) -> _R:
    """Return ``function()``, called while `error` is the exception being handled.

    Code called from an ``except`` block sees the exception in `sys.exc_info()`. On another thread
    that takes raising it again, which changes its traceback and context. The exception belongs to
    the caller, so both are restored before the function runs.
    """
    traceback, context = _TRACEBACK.__get__(error), _CONTEXT.__get__(error)
    try:
        raise error
    except BaseException:
        _TRACEBACK.__set__(error, traceback)
        _CONTEXT.__set__(error, context)
        del traceback, context
        return function()
    finally:
        # The frame is part of the traceback of whatever the function raises.
        del error


async def run_handling_coroutine(error: BaseException, awaitable: Awaitable[_R]) -> _R:
    """Return ``await awaitable``, awaited while `error` is the exception being handled."""
    traceback, context = _TRACEBACK.__get__(error), _CONTEXT.__get__(error)
    try:
        raise error
    except BaseException:
        _TRACEBACK.__set__(error, traceback)
        _CONTEXT.__set__(error, context)
        del traceback, context
        return await awaitable
    finally:
        del error


def _without_own_frame(error: BaseException) -> BaseException:
    """Return `error` with a traceback that starts at the user's function."""
    traceback = _TRACEBACK.__get__(error)
    if traceback is not None:
        _TRACEBACK.__set__(error, traceback.tb_next)
    return error
