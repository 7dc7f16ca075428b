"""The two kinds of call across the bridge, and the state machine that both follow.

    QUEUED ───> RUNNING ───> FINISHED
       ├──────────────────────┘ (refused, or run by another process)
       └──────> CANCELLED

A task makes a `FunctionCall`, which runs on another thread. A synchronous thread makes a
`CoroutineCall`, which runs as a task of an event loop. Both threads can change a call's state, so
each transition holds the call's lock. Each call has exactly one outcome: a value or an exception.
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
    from ._limits import PoolLimiter

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
    """Base of both kinds of call: callable, state, outcome."""

    __slots__ = ("__weakref__", "_error", "_lock", "_value", "function", "state")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] = function
        self.state: CallState = _QUEUED
        self._lock = threading.Lock()
        self._value: Any = _NO_VALUE
        self._error: BaseException | None = None

    def _move(
        self, target: CallState, value: Any = _NO_VALUE, error: BaseException | None = None
    ) -> bool:
        """Move to `target` with this outcome. Return False if the current state forbids that."""
        with self._lock:
            if self.state.label not in target.sources:
                return False
            self._value, self._error, self.state = value, error, target
            return True

    @property
    def is_queued(self) -> bool:
        return self.state is _QUEUED

    @property
    def is_over(self) -> bool:
        """Whether the call has an outcome. A cancellation counts as one."""
        return self.state is _FINISHED or self.state is _CANCELLED

    def take_outcome(self) -> Any:
        """Return the call's value, or raise its exception. Works once."""
        __traceback_hide__ = True
        error, value = self._error, self._value
        # The exception's traceback refers to frames that refer to this call: break the cycle.
        self._error, self._value = None, _NO_VALUE
        if error is None:
            if value is _NO_VALUE:
                raise RuntimeError(f"the call to {describe(self.function)} was interrupted")
            return value
        try:
            raise error
        finally:
            del error


class FunctionCall(Call, WorkItem):
    """A call to a synchronous function, made by a task that awaits the outcome on its loop.

    Pickling a call for a process or interpreter pool pickles the function and its arguments. A call
    ends in three steps:

    1. its state becomes FINISHED: the outcome is set (on any thread);
    2. `_is_delivered`: the outcome is in the completion queue (on the same thread);
    3. `has_arrived`: the loop has taken it from that queue (on the loop's thread).
    """

    __slots__ = (
        "_is_delivered",
        "_waiter",
        "args",
        "baseline",
        "blocked_in",
        "completion_queue",
        "context",
        "foreign_executor",
        "future",
        "handled_exception",
        "handler",
        "has_arrived",
        "kwargs",
        "limiter",
        "loop",
        "sending_thread",
        "timer",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
        baseline: Context,
        handled_exception: BaseException | None,
        completion_queue: CompletionQueue,
        sending_thread: threading.Thread | None,
    ) -> None:
        # The attributes of `Call`: calling its `__init__` here would slow down every call.
        self.function = function
        self.state = _QUEUED
        self._lock = threading.Lock()
        self._value = _NO_VALUE
        self._error = None
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.context: Context = context
        #: A snapshot of the caller's context or, once values have been adapted, of `context`.
        self.baseline: Context = baseline
        #: The exception that the caller is handling, if any.
        self.handled_exception: BaseException | None = handled_exception
        self.completion_queue: CompletionQueue = completion_queue
        self.loop: asyncio.AbstractEventLoop = completion_queue.loop
        #: The thread that `context` comes from; None if no value needs adapting.
        self.sending_thread: threading.Thread | None = sending_thread
        #: `SyncToAsync.thread_handler`, if an integration overrides it or an observer is set.
        self.handler: Callable[..., Any] | None = None
        #: The limiter whose token the running call holds.
        self.limiter: PoolLimiter | None = None
        #: The foreign executor that runs the call, if one does, and the future that it returned.
        self.foreign_executor: Executor | None = None
        self.future: Future[Any] | None = None
        #: The timer with which `_diagnostics` detects a deadlock.
        self.timer: asyncio.TimerHandle | None = None
        #: The innermost coroutine call in which the function is blocked. The function's thread
        #: writes it; the loop's thread reads it.
        self.blocked_in: CoroutineCall | None = None
        #: Whether the loop's thread has the outcome.
        self.has_arrived: bool = False
        self._is_delivered = False
        self._waiter: asyncio.Future[None] | None = None

    # Methods for the thread that runs the function.

    def run(self) -> None:
        if not self._move(_RUNNING):
            return
        state = thread_state()
        outer = state.call, state.parent_loop, state.parent_pid
        try:
            state.call, state.parent_loop, state.parent_pid = self, self.loop, state.pid
            if (
                self.handler is None
                and self.handled_exception is None
                and self.sending_thread is None
            ):
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
            exc_info = exc_info_of(self.handled_exception)
            return self.handler(self.loop, exc_info, [], self._run_child, child)
        return run_handling(self.handled_exception, partial(self._run_child, child))

    def _run_child(self, child: Callable[[], Any]) -> Any:
        if self.sending_thread is not None:
            self.baseline = self.context.run(adapt_values, self.sending_thread)
        return self.context.run(child)

    def __call__(self) -> None:
        """Run the call: a foreign executor received this object as its function."""
        self.run_and_deliver()

    def __reduce__(self) -> str | tuple[Any, ...]:
        return partial(self.function, *self.args, **self.kwargs).__reduce__()

    # Methods that any thread may call.

    def deliver(self) -> None:
        if self.state is _RUNNING:
            self._move(_FINISHED, self._value, self._error)
        if self.state is _FINISHED and not self._is_delivered:
            # Put first: if a signal handler raises before the flag is set, the next delivery puts
            # it again, which is harmless.
            self.completion_queue.put(self._arrive)
            self._is_delivered = True

    def discard(self, error: BaseException) -> None:
        if self._move(_FINISHED, error=error):
            self.deliver()

    def set_result(self, value: Any) -> None:
        """Finish the call with a value from another process or interpreter."""
        if self._move(_FINISHED, value):
            self.deliver()

    # Methods for the loop's thread.

    def _arrive(self) -> None:
        """Wake the task. The completion queue calls this, usually once."""
        self.has_arrived = True
        self.future = None  # the future's callback refers to this call: break the cycle
        self._wake_task()

    def _wake_task(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            resume(waiter)

    @property
    def waiter(self) -> "asyncio.Future[None] | None":
        """The future that the calling task awaits, if it does."""
        return self._waiter

    def new_waiter(self) -> "asyncio.Future[None]":
        """Return a future to await until the outcome has arrived."""
        waiter = self._waiter = self.loop.create_future()
        return waiter

    def abandon(self) -> None:
        """Prevent the function from starting."""
        if self._move(_CANCELLED):
            future, self.future = self.future, None
            if future is not None:
                future.cancel()

    def cancel(self, cancellation: asyncio.CancelledError) -> "list[CoroutineCall]":
        """Cancel the call after `cancellation` was raised in the task that awaits it.

        A queued call will never start. A running function cannot be stopped, but if it is blocked
        in `async_to_sync`, this cancels its coroutine, and the function sees the cancellation.

        Returns:
            The coroutine calls that received the cancellation. If the list is empty, the task must
            stop waiting.
        """
        self.abandon()
        calls: list[CoroutineCall] = []
        call = self.blocked_in if self.state is _RUNNING else None
        while call is not None:
            calls.insert(0, call)
            call = call.outer
        return [call for call in calls if call.cancel(*cancellation.args[:1], told=self.reconsider)]

    def reconsider(self) -> None:
        """Make the cancelled task check this call again. Any thread may call this."""
        self.completion_queue.put(self._wake_task)


class CoroutineCall(Call):
    """A call to a coroutine function, made by a thread that is blocked until it finishes.

    `AsyncToSync.main_wrap` passes it to integrations as ``call_result``.
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
        "sending_thread",
    )

    def __init__(
        self, function: Callable[..., Any], executor: CurrentThreadExecutor, state: ThreadState
    ) -> None:
        super().__init__(function)
        #: The blocked thread, as an executor.
        self.executor: CurrentThreadExecutor = executor
        #: The blocked thread, from which the context variables come.
        self.sending_thread: threading.Thread = state.thread
        #: The call in which the same function was already blocked when it made this one. That
        #: happens when the blocked thread runs a `SubmittedCall`, which does not change
        #: `ThreadState.call`.
        self.outer: CoroutineCall | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        #: Whether a cancellation from outside reached user code.
        self.received_cancellation: bool = False
        #: Whether the last cancellation came too late.
        self.missed_cancellation: bool = False
        self._pid = state.pid
        self._awaitable: Awaitable[Any] | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._owns_loop = False
        self._is_hooked = False

    # Methods for the calling thread.

    def prepare(
        self,
        coroutine: Awaitable[None],
        awaitable: Awaitable[Any],
        context: Context,
        is_hooked: bool,
    ) -> None:
        """Take over `coroutine`, which awaits `awaitable` in `context` and sets the outcome.

        Args:
            is_hooked: whether `coroutine` may continue after it has set the outcome.
        """
        self._is_hooked = is_hooked
        if is_hooked and not isinstance(coroutine, Coroutine):
            coroutine = _await(coroutine)
        assert isinstance(coroutine, Coroutine)
        self._coroutine, self._awaitable, self._context = coroutine, awaitable, context

    def assign(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Record the loop that will start the coroutine.

        Return False if the call no longer needs a loop.
        """
        with self._lock:
            if self.state is not _QUEUED:
                return False
            self.loop = self.executor.loop = loop
            return True

    def own_loop(self) -> None:
        """Make the call stop its loop once the outcome is set.

        The loop's thread cleans up, then wakes the caller.
        """
        self._owns_loop = True

    def forget_loop(self) -> None:
        """Drop the reference to the call's own loop, which is closed or kept for another call."""
        self.loop = self.executor.loop = None

    def check_progress(self) -> bool:
        """Check whether the coroutine can still finish. Return False if it needs another loop.

        If it can never finish, the reason becomes the outcome. Raises RuntimeError in a forked
        child.
        """
        loop = self.loop
        if self._pid != os.getpid():
            raise RuntimeError(
                "async_to_sync is waiting for a loop that exists only in the parent of this process"
            )
        if self._owns_loop:
            return True  # the loop's thread always sets an outcome
        if self.is_over:
            # A signal handler may have raised after the outcome was set, but before the wake-up.
            self.executor.finish()
        elif loop is None:
            pass
        elif self.state is _QUEUED and not loop.is_running():
            return not self.assign(None)
        elif loop.is_closed():
            self.set_exception(RuntimeError("Event loop was closed before the coroutine was done."))
        elif PROCESS.is_exiting and not loop.is_running():
            self.set_exception(RuntimeError("Event loop was stopped: the interpreter is exiting."))
        return True

    def close_coroutine(self) -> None:
        """Close the coroutine if it has not started."""
        if self._awaitable is None:
            return
        for never_started in (self._coroutine, self._awaitable):
            if isinstance(never_started, Coroutine):
                never_started.close()
        self._coroutine = self._awaitable = None

    # Methods for the loop's thread.

    def start(self) -> None:
        """Start the coroutine as a task of the running loop, unless the call was cancelled."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.state is not _QUEUED or self.loop is not loop:
                if self.loop is loop and self.is_over and self._owns_loop:
                    loop.stop()  # cancelled after the loop was assigned, but before it ran
                return
            self.state = _RUNNING
        coroutine: Coroutine[Any, Any, None] | None = None
        try:
            coroutine, self._coroutine = self._coroutine, None
            context, self._context = self._context, None
            assert coroutine is not None
            assert context is not None
            task = create_task(loop, coroutine, context)
            is_done = task.done()
        except BaseException as error:
            # The application's task factory failed. The loop must keep running its other tasks.
            try:
                if coroutine is not None:
                    coroutine.close()
                self.close_coroutine()
            finally:
                self.set_exception(error)
                if self._owns_loop:
                    loop.stop()
            if not isinstance(error, Exception):
                raise
            return
        if is_done:
            if self._is_hooked or not self.is_over:
                self._task_done(task)
        elif self._is_hooked or not self.is_over:
            task.set_name(f"async_to_sync {describe(self.function)}")
            self._task = task
            task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        """Set the outcome for a task that ended without setting one; stop the call's own loop.

        A task that is cancelled before its first step sets none, for example.
        """
        self.close_coroutine()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self.is_over:
            if error is None:
                error = RuntimeError("main_wrap returned without setting an outcome")
            self.set_exception(error)
        elif error is not None and self._owns_loop:
            self.replace_outcome(error)  # a hook failed after the outcome was set
        if self._owns_loop:
            task.get_loop().stop()

    def set_result(self, result: Any) -> None:
        """Finish the call with `result`, unless it already has an outcome.

        Any thread may call this.
        """
        if self._move(_FINISHED, result):
            self._wake_thread()

    def set_exception(self, error: BaseException) -> None:
        """Finish the call with `error`, unless it already has an outcome.

        Any thread may call this.
        """
        if self._move(_FINISHED, error=error):
            self._wake_thread()

    def replace_outcome(self, error: BaseException) -> None:
        """Finish the call with `error`, even if it has an outcome already."""
        self.set_exception(error)
        self._value, self._error = _NO_VALUE, error

    def _wake_thread(self) -> None:
        if self._coroutine is None:  # otherwise neither has started; `close_coroutine` closes both
            self._awaitable = None
        if self._owns_loop and self._is_hooked:
            return  # the loop stops when the task is done
        task, self._task = self._task, None
        if task is not None:
            # This is the task's last step, and the callback would cost an iteration of the loop.
            task.remove_done_callback(self._task_done)
        if not self._owns_loop:
            self.executor.finish()
        elif self.loop is not None and self.loop.is_running():
            self.loop.stop()

    # Methods that any thread may call. In asgiref 3.13 this object is a future, and integrations
    # use it as one.

    def done(self) -> bool:
        """Whether the call has an outcome, which may be a cancellation."""
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
        """The coroutine that runs or will run; used in reports."""
        task = self._task
        return self._coroutine if task is None else task.get_coro()

    def cancel(self, *message: Any, told: Callable[[], None] | None = None) -> bool:
        """Cancel the coroutine.

        Args:
            message: the arguments for the CancelledError.
            told: called if the coroutine ends without seeing the cancellation.

        Returns:
            True if the coroutine will see the cancellation, or if only its loop's thread can tell.
        """
        if self._move(_CANCELLED, error=asyncio.CancelledError(*message)):
            self.received_cancellation = True
            self.close_coroutine()
            self.executor.finish()
            return True
        loop = self.loop
        if self.state is not _RUNNING or loop is None:
            # The function will see an earlier cancellation as this call's outcome.
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
        """Cancel the task unless it has set an outcome. Call this on the loop's thread."""
        task = self._task
        if task is None or self.is_over or not task.cancel(*message):
            return False
        self.received_cancellation = True
        return True


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


# Exceptions from user code. Their classes may reject or react to attribute assignment (a frozen
# dataclass rejects it), so the bridge uses BaseException's own descriptors.

_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]


def exc_info_of(error: BaseException | None) -> ExcInfo:
    """Return the value of `sys.exc_info()` while `error` is being handled."""
    return (None, None, None) if error is None else (type(error), error, _TRACEBACK.__get__(error))


def run_handling(error: BaseException | None, function: Callable[[], _R]) -> _R:
    """Call `function` while `error`, if given, is the exception being handled; return its result.

    Code called from an ``except`` block sees the exception in `sys.exc_info()`. To get the same
    result on another thread, this raises the exception again, which changes its traceback and
    context. The exception belongs to the caller, so both are restored before the function runs.
    """
    if error is None:
        return function()
    traceback, context = _TRACEBACK.__get__(error), _CONTEXT.__get__(error)
    try:
        raise error
    except BaseException:
        _TRACEBACK.__set__(error, traceback)
        _CONTEXT.__set__(error, context)
        del traceback, context
        return function()
    finally:
        # The traceback of the function's exception keeps this frame alive.
        del error


async def run_handling_coroutine(error: BaseException, awaitable: Awaitable[_R]) -> _R:
    """Await `awaitable` while `error` is the exception being handled; return its result."""
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
