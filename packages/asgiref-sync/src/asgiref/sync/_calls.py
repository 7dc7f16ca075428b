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
from concurrent.futures import Executor, Future
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._asyncio_internals import CompletionQueue, create_task, resume
from ._blocking import CurrentThreadExecutor
from ._callables import describe
from ._contextvars import adapt_values
from ._thread_pool import WorkItem
from ._thread_state import PROCESS, ThreadState, thread_state

if TYPE_CHECKING:
    from ._limits import Limiter

_R = TypeVar("_R")

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

    def _move(self, target: CallState) -> bool:
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
    def is_over(self) -> bool:
        """Whether the outcome is there, a cancellation among others."""
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
    """A call of a synchronous function for the task that awaits it on a loop.

    Executors in other processes and interpreters get the function and its arguments, pickled.
    """

    __slots__ = (
        "_is_delivered",
        "_waiter",
        "args",
        "before",
        "blocked_in",
        "context",
        "foreign_executor",
        "future",
        "handled",
        "handler",
        "has_arrived",
        "kwargs",
        "limiter",
        "loop",
        "queue",
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
        queue: CompletionQueue,
        sender: threading.Thread | None,
    ) -> None:
        self.function = function
        self.state = _QUEUED
        self._lock = threading.Lock()
        self._value = _NO_VALUE
        self._error = None
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.context: Context = context
        #: A snapshot of the caller's context, or of `context` once its values were adapted.
        self.before: Context = before
        #: The exception that the caller is handling.
        self.handled: BaseException | None = handled
        self.queue: CompletionQueue = queue
        self.loop: asyncio.AbstractEventLoop = queue.loop
        #: The thread that the values in `context` leave, if they must be adapted.
        self.sender: threading.Thread | None = sender
        #: `SyncToAsync.thread_handler`, when an integration overrides it.
        self.handler: Callable[..., Any] | None = None
        #: The limiter of which the running call holds a token.
        self.limiter: Limiter | None = None
        #: The executor of others that runs the call, if one does, and its future.
        self.foreign_executor: Executor | None = None
        self.future: Future[Any] | None = None
        #: The timer of `_diagnostics` that looks for a deadlock.
        self.timer: asyncio.TimerHandle | None = None
        #: The innermost coroutine call that the function is blocked in. The function's thread
        #: replaces it; the loop's thread reads it.
        self.blocked_in: CoroutineCall | None = None
        #: Whether the loop knows of the outcome.
        self.has_arrived: bool = False
        self._is_delivered = False
        self._waiter: asyncio.Future[None] | None = None

    # The thread that runs the function.

    def run(self) -> None:
        if not self._move(_RUNNING):
            return
        state = thread_state()
        outer = state.call, state.parent_loop, state.parent_pid
        try:
            state.call, state.parent_loop, state.parent_pid = self, self.loop, state.pid
            if self.handler is None and self.handled is None and self.sender is None:
                self._value = self.context.run(self.function, *self.args, **self.kwargs)
            else:
                self._value = self._run_with_extras()
        except BaseException as error:
            self._error = _without_own_frame(error)
        finally:
            state.call, state.parent_loop, state.parent_pid = outer
            del outer

    def _run_with_extras(self) -> Any:
        """Run the function with a hook, a handled exception, or adapted values."""
        child = partial(self.function, *self.args, **self.kwargs)
        if self.handler is not None:
            return self.handler(self.loop, exc_info_of(self.handled), [], self._run_child, child)
        if self.handled is None:
            return self._run_child(child)
        return run_handling(self.handled, partial(self._run_child, child))

    def _run_child(self, child: Callable[[], Any]) -> Any:
        if self.sender is not None:
            self.before = self.context.run(adapt_values, self.sender)
        return self.context.run(child)

    def __call__(self) -> None:
        """Run the call as the function that a foreign executor was given."""
        self.run_and_deliver()

    def __reduce__(self) -> str | tuple[Any, ...]:
        return partial(self.function, *self.args, **self.kwargs).__reduce__()

    # Any thread.

    def deliver(self) -> None:
        if self.state is _RUNNING:
            self._move(_FINISHED)
        if self.state is _FINISHED and not self._is_delivered:
            # In this order: a signal handler may raise in between, and twice does no harm.
            self.queue.put(self._arrive)
            self._is_delivered = True

    def discard(self, error: BaseException) -> None:
        if self._finish(_NO_VALUE, error):
            self.deliver()

    def set_result(self, value: Any) -> None:
        """Finish the call, which another process or interpreter has run."""
        if self._finish(value, None):
            self.deliver()

    # The loop's thread.

    def _arrive(self) -> None:
        """Let the task go on; the completion queue calls this, usually once."""
        self.has_arrived = True
        self.future = None  # a foreign executor's future leads back here, by its callback
        self._wake_task()

    def _wake_task(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            resume(waiter)

    def new_waiter(self) -> "asyncio.Future[None]":
        """Return a future to await until the outcome has arrived."""
        waiter = self._waiter = self.loop.create_future()
        return waiter

    def abandon(self) -> None:
        """See that the function never starts, if it has not."""
        if self._move(_CANCELLED):
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
        calls: list[CoroutineCall] = []
        call = self.blocked_in if self.state is _RUNNING else None
        while call is not None:
            calls.insert(0, call)
            call = call.outer
        return [call for call in calls if call.cancel(*cancellation.args[:1], told=self.reconsider)]

    def reconsider(self) -> None:
        """Have the cancelled task look at this call again. Any thread."""
        self.queue.put(self._wake_task)


class CoroutineCall(Call):
    """A call of a coroutine function for a thread that is blocked until it is finished.

    Integrations meet it as ``call_result``, an argument of `AsyncToSync.main_wrap`.
    """

    __slots__ = (
        "_awaitable",
        "_context",
        "_coroutine",
        "_is_hooked",
        "_owns_loop",
        "_pid",
        "_task",
        "executor",
        "loop",
        "missed_cancellation",
        "outer",
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
        #: The call that the same function was blocked in already, when it made this one.
        self.outer: CoroutineCall | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Whether user code got to see a cancellation from outside.
        self.received_cancellation: bool = False
        #: Whether the last one came too late.
        self.missed_cancellation: bool = False
        self._pid = state.pid
        self._awaitable: Awaitable[Any] | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._owns_loop = False
        self._is_hooked = False

    # The calling thread.

    def prepare(
        self,
        coroutine: Awaitable[None],
        awaitable: Awaitable[Any],
        context: Context,
        is_hooked: bool,
    ) -> None:
        """Take over `coroutine`, which awaits `awaitable` in `context` and sets the outcome.

        Args:
            is_hooked: whether it may go on after that.
        """
        self._is_hooked = is_hooked
        if is_hooked and not isinstance(coroutine, Coroutine):
            coroutine = _await(coroutine)
        assert isinstance(coroutine, Coroutine)
        self._coroutine, self._awaitable, self._context = coroutine, awaitable, context

    def assign(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Say which loop shall start the coroutine; false if it does not need one any more."""
        with self._lock:
            if self.state is not _QUEUED:
                return False
            self.loop = self.executor.loop = loop
            return True

    def own_loop(self) -> None:
        """Have the outcome stop the loop, whose thread lets the blocked one go on after that."""
        self._owns_loop = True

    def forget_loop(self) -> None:
        """Drop the call's own loop, which is closed or kept for another call."""
        self.loop = self.executor.loop = None

    def can_finish(self) -> bool:
        """Look whether the outcome can still come; false if that takes another loop.

        If it cannot come at all, the reason is the outcome. Raises RuntimeError in a forked child.
        """
        loop = self.loop
        if self._pid != os.getpid():
            raise RuntimeError("async_to_sync waits for a loop of the process it was forked from")
        if self._owns_loop:
            return True  # a loop thread sees to the outcome
        if self.is_over:
            # A signal handler may have raised between the outcome and the wake-up.
            self.executor.finish()
        elif loop is None:
            pass
        elif self.state is _QUEUED and not loop.is_running():
            return not self.assign(None)
        elif loop.is_closed():
            self.set_exception(RuntimeError("Event loop was closed before the coroutine was done."))
        elif PROCESS.is_exiting and not loop.is_running():
            self.set_exception(RuntimeError("Event loop was stopped and the interpreter exits."))
        return True

    def close_coroutine(self) -> None:
        """Close the coroutine if it was not started."""
        if self._awaitable is None:
            return
        for never_started in (self._coroutine, self._awaitable):
            if isinstance(never_started, Coroutine):
                never_started.close()
        self._coroutine = self._awaitable = None

    # The loop's thread.

    def start(self) -> None:
        """Start the coroutine as a task of the running loop, unless that was called off."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.state is not _QUEUED or self.loop is not loop:
                if self.loop is loop and self.is_over and self._owns_loop:
                    loop.stop()  # called off after this loop was assigned, when it did not run yet
                return
            self.state = _RUNNING
        coroutine: Coroutine[Any, Any, None] | None = None
        try:
            coroutine, self._coroutine = self._coroutine, None
            context, self._context = self._context, None
            assert coroutine is not None
            assert context is not None
            task = create_task(loop, coroutine, context)
        except BaseException as error:
            # The application's task factory raised. The loop must keep serving other tasks.
            self.set_exception(error)
            if self._owns_loop:
                loop.stop()
            if coroutine is not None:
                coroutine.close()
            self.close_coroutine()
            if not isinstance(error, Exception):
                raise
            return
        if task.done():
            if self._is_hooked or not self.is_over:
                self._task_done(task)
        elif self._is_hooked or not self.is_over:
            task.set_name(f"async_to_sync {describe(self.function)}")
            self._task = task
            task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        """Set an outcome for a task that ended without one, and stop the loop if it is the call's.

        A task that was cancelled before its first step has none, for example.
        """
        self.close_coroutine()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self.is_over:
            if error is None:
                error = RuntimeError("main_wrap ended without setting an outcome")
            self.set_exception(error)
        elif error is not None and self._owns_loop:
            self.replace_outcome(error)  # a hook failed after the outcome was set
        if self._owns_loop:
            task.get_loop().stop()

    def set_result(self, result: Any) -> None:
        """Finish the call with `result`, if it is not finished yet. Any thread."""
        if self._finish(result, None):
            self._let_thread_go_on()

    def set_exception(self, error: BaseException) -> None:
        """Finish the call with `error`, if it is not finished yet. Any thread."""
        if self._finish(_NO_VALUE, error):
            self._let_thread_go_on()

    def replace_outcome(self, error: BaseException) -> None:
        """Finish the call with `error`, even if it has an outcome already."""
        self.set_exception(error)
        self._value, self._error = _NO_VALUE, error

    def _let_thread_go_on(self) -> None:
        if self._coroutine is None:  # else neither has started, and `close_coroutine` closes both
            self._awaitable = None
        if self._owns_loop and self._is_hooked:
            return  # until the task is done
        task, self._task = self._task, None
        if task is not None:
            # This is the task's last step: the callback would take another turn of the loop.
            task.remove_done_callback(self._task_done)
        if not self._owns_loop:
            self.executor.finish()
        elif self.loop is not None and self.loop.is_running():
            self.loop.stop()

    # Any thread. Integrations use it as the future that it is in asgiref 3.13.

    def done(self) -> bool:
        """Whether the call has an outcome, a cancellation among others."""
        return self.is_over

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        """Return the exception of a call that is done, if it has one."""
        return self._error

    def result(self) -> Any:
        """Return the result of a call that is done, or raise its exception."""
        if self._error is not None:
            raise self._error
        return None if self._value is _NO_VALUE else self._value

    @property
    def coroutine(self) -> object:
        """The coroutine that runs, or will run, for those who report on it."""
        task = self._task
        return self._coroutine if task is None else task.get_coro()

    def cancel(self, *message: Any, told: Callable[[], None] | None = None) -> bool:
        """Cancel the coroutine; true if it will see that, or if only its loop's thread can tell.

        Args:
            message: of the CancelledError, if it has one.
            told: called if it turns out that the coroutine ends without seeing the cancellation.
        """
        if self._finish(_NO_VALUE, asyncio.CancelledError(*message), _CANCELLED):
            self.received_cancellation = True
            self.close_coroutine()
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
            loop.call_soon_threadsafe(self._cancel_task_or_tell, message, told)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _cancel_task_or_tell(
        self, message: tuple[Any, ...], told: Callable[[], None] | None
    ) -> None:
        if not self._cancel_task(*message):
            self.missed_cancellation = True
            if told is not None:
                told()

    def _cancel_task(self, *message: Any) -> bool:
        """On the loop's thread: cancel the task, if it has not set an outcome."""
        task = self._task
        if task is None or self.is_over or not task.cancel(*message):
            return False
        self.received_cancellation = True
        return True


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


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
