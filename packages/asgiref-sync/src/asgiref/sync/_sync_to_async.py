"""`sync_to_async`: call a synchronous function from async code.

A call takes a snapshot of the context, creates a `FunctionCall`, lets `_routing` queue it, awaits
it, and propagates the context's changes. The invariant: however the coroutine ends, the function
has finished, will never start, or keeps running and its outcome is dropped.
"""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from . import _observation  # pyright: ignore[reportPrivateUsage]
from ._async_to_sync import AsyncToSync
from ._asyncio_internals import completion_queue_of
from ._callables import adopt_identity, describe, is_async_callable, markcoroutinefunction
from ._calls import CoroutineCall, FunctionCall, run_handling
from ._contextvars import propagate_changes, sending_thread_of
from ._diagnostics import log_if_slow
from ._routing import (
    CONTEXT_EXECUTORS,
    DEADLOCK_CONTEXT,
    SHARED_EXECUTOR,
    THREAD_SENSITIVE_CONTEXT,
    submit_parallel,
    submit_sensitive,
)
from ._thread_pool import logger
from ._thread_state import ThreadState, thread_state_at_entry

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_T = TypeVar("_T")

#: A function that returns a coroutine.
CoroutineFunction = Callable[_P, Coroutine[Any, Any, _R]]


def _state_with_parent() -> ThreadState:
    """Return this thread's state, or raise AttributeError (for `hasattr`) if no loop called it."""
    state = thread_state_at_entry()
    if state.parent_loop is None and state.parent_pid is None:
        raise AttributeError("no event loop has called this thread")
    return state


class _ParentLoop(threading.local):
    """``SyncToAsync.threadlocal``: the loop that called this thread, as in asgiref 3.13."""

    @property
    def main_event_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop to which `async_to_sync` sends this thread's coroutines while that loop runs.

        Assign None or a loop that is not running to make `async_to_sync` use a separate loop.
        """
        return _state_with_parent().parent_loop

    @main_event_loop.setter
    def main_event_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        thread_state_at_entry().parent_loop = loop

    @main_event_loop.deleter
    def main_event_loop(self) -> None:
        thread_state_at_entry().parent_loop = None

    @property
    def main_event_loop_pid(self) -> int | None:
        """The process in which that loop runs. Other processes ignore it."""
        return _state_with_parent().parent_pid

    @main_event_loop_pid.setter
    def main_event_loop_pid(self, pid: int | None) -> None:
        thread_state_at_entry().parent_pid = pid

    @main_event_loop_pid.deleter
    def main_event_loop_pid(self) -> None:
        thread_state_at_entry().parent_pid = None


class SyncToAsync(Generic[_P, _R]):
    """An async callable that runs a synchronous one on a worker thread; see `sync_to_async`.

    Integrations subclass this class or replace its methods. They can rely on four facts: `func` is
    the function; `__call__` passes its arguments through; `thread_handler` runs on the worker
    thread around each call; each call reads the class attributes below.

    Args:
        func: the function.
        thread_sensitive: run all functions of one call chain on the same thread.
        executor: runs the function in place of the pool; needs ``thread_sensitive=False``.
        context: the `contextvars.Context` to run in. None means a copy of the caller's.
    """

    #: In a function that `sync_to_async` runs, ``main_event_loop`` is the loop that called it.
    threadlocal: _ParentLoop = _ParentLoop()
    #: Runs thread-sensitive calls that no other rule covers. Any object with a `submit` method
    #: works.
    single_thread_executor: Executor = SHARED_EXECUTOR
    #: The `ThreadSensitiveContext` that the current code is in.
    thread_sensitive_context = THREAD_SENSITIVE_CONTEXT
    #: The executor of each `ThreadSensitiveContext` that currently has one.
    context_to_thread_executor = CONTEXT_EXECUTORS
    #: True in code that occupies the shared thread and must not wait for it.
    deadlock_context = DEADLOCK_CONTEXT

    def __init__(
        self,
        func: Callable[_P, _R],
        thread_sensitive: bool = True,
        executor: Executor | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        if not callable(func) or is_async_callable(func):
            # asgiref's users compare this exception's arguments, so a note, not the message, names
            # the function.
            refusal = TypeError("sync_to_async can only be applied to sync functions.")
            refusal.add_note(f"It was applied to {describe(func)}.")
            raise refusal
        if thread_sensitive and executor is not None:
            raise TypeError(
                f"executor must not be set when thread_sensitive is True (for {describe(func)}): "
                "pass thread_sensitive=False with it"
            )
        adopt_identity(self, func)
        self.func = func
        self.context = context
        self._thread_sensitive = thread_sensitive
        self._executor = executor
        markcoroutinefunction(self)

    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run the function with these arguments on the thread that the rules choose."""
        __traceback_hide__ = True
        baseline = contextvars.copy_context()
        call = FunctionCall(
            self.func,
            args,
            kwargs,
            baseline.copy() if self.context is None else self.context,
            baseline,
            sys.exception(),
            completion_queue_of(asyncio.get_running_loop()),
            sending_thread_of(thread_state_at_entry().thread),
        )
        observer = _observation.observer
        if (
            type(self).thread_handler is not _plain_thread_handler
            or "thread_handler" in self.__dict__
            or observer is not None
        ):
            call.handler = self.thread_handler
        if observer is not None:
            _observation.observe_function(call, observer)
        timer = None
        try:
            timer = log_if_slow(call)
            if self._thread_sensitive:
                loop_executors = AsyncToSync.loop_thread_executors
                submit_sensitive(call, self.single_thread_executor, loop_executors)
            else:
                submit_parallel(call, self._executor)
            try:
                await call.new_waiter()
            except asyncio.CancelledError as cancellation:
                await _cancel(call, cancellation)
            return call.take_outcome()  # type: ignore[no-any-return]
        finally:
            if not call.has_arrived:
                call.abandon()
            elif self.context is None:
                propagate_changes(call.context, call.baseline)
            if timer is not None:
                timer.cancel()
            if call.timer is not None:
                call.timer.cancel()
            # A raised exception's traceback keeps this frame alive, and the frame would keep the
            # call and its arguments alive.
            del call, baseline

    @overload
    def __get__(self, parent: None, objtype: type[Any]) -> CoroutineFunction[_P, _R]: ...

    @overload
    def __get__(
        self: "SyncToAsync[Concatenate[_T, _Q], _R]", parent: _T, objtype: type[Any] | None = None
    ) -> CoroutineFunction[_Q, _R]: ...

    def __get__(self, parent: Any, objtype: Any = None) -> CoroutineFunction[..., _R]:
        if parent is None:
            return self
        if sys.version_info >= (3, 12):
            return MethodType(self, parent)
        return MethodType(self._coroutine_function(), parent)

    def _coroutine_function(self) -> CoroutineFunction[..., _R]:
        """Return a coroutine function that calls this object.

        On 3.11 `inspect` recognises its bound methods. Return the same function each time, so that
        bound methods compare equal.
        """

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self(*args, **kwargs)

        # The wrapper also has the attributes of the user's function, hence the long name.
        if "_asgiref_coroutine_function" not in self.__dict__:
            adopt_identity(call, self)
            self.__dict__["_asgiref_coroutine_function"] = call
        return self.__dict__["_asgiref_coroutine_function"]  # type: ignore[no-any-return]

    def thread_handler(
        self,
        loop: asyncio.AbstractEventLoop,
        exc_info: Any,
        task_context: Any,
        func: Callable[..., _R],
        *args: Any,
        **kwargs: Any,
    ) -> _R:
        """Run one call on its worker thread. Integrations can override or wrap this hook.

        Code in an override runs in the worker thread's context; `func` runs in the call's context.

        Args:
            loop: the caller's event loop.
            exc_info: the value of `sys.exc_info()` in the calling code.
            task_context: a list of the tasks for which the blocked function waits, or None.
            func: the function to call with `args` and `kwargs`.
            args: one argument, the ``child``: a `functools.partial` of the wrapped function with
                the call's arguments. An override can pass a different one to `func`.
            kwargs: empty.

        Returns:
            The result of `func`, which becomes the result of the call.
        """
        __traceback_hide__ = True
        state = thread_state_at_entry()
        outer = state.parent_loop, state.parent_pid, state.task_context
        # An integration can call this on its own thread, or after changing the parent loop.
        state.parent_loop, state.parent_pid, state.task_context = loop, state.pid, task_context
        try:
            return run_handling(exc_info[1], partial(func, *args, **kwargs))
        finally:
            state.parent_loop, state.parent_pid, state.task_context = outer


_plain_thread_handler: Any = SyncToAsync[..., Any].thread_handler


async def _cancel(call: FunctionCall, cancellation: asyncio.CancelledError) -> None:
    """Cancel `call` after its task was cancelled. Wait if its function sees the cancellation.

    Re-raise the cancellation unless it reached a coroutine that the function is waiting for.
    """
    cancelled: list[CoroutineCall] = []
    try:
        cancelled = call.cancel(cancellation)
        while not call.has_arrived:
            cancelled = [each for each in cancelled if not each.missed_cancellation]
            if not cancelled:
                raise cancellation
            try:
                await call.new_waiter()
            except asyncio.CancelledError as another:
                cancellation = another
                cancelled = call.cancel(cancellation)
        # All the coroutines may have finished before the cancellation reached their loop.
        if not any(each.received_cancellation for each in cancelled):
            raise cancellation
    finally:
        del call, cancellation, cancelled  # the exception's traceback keeps this frame alive


def run_unawaited(function: Callable[[], object], thread_sensitive: bool) -> None:
    """Queue a call of `function`, which cleans up after a task that does not wait for it.

    Nothing can cancel the call, and it runs even if the loop ends first. A task that awaits it
    would be cancelled with the others when `asyncio.run` ends. Exceptions are logged.
    """

    def run() -> None:
        try:
            function()
        except Exception:
            logger.exception("the cleanup %s failed", describe(function))

    context = contextvars.copy_context()
    queue = completion_queue_of(asyncio.get_running_loop())
    sender = sending_thread_of(thread_state_at_entry().thread)
    call = FunctionCall(run, (), {}, context, context, None, queue, sender)
    try:
        if thread_sensitive:
            executor = SyncToAsync.single_thread_executor
            submit_sensitive(call, executor, AsyncToSync.loop_thread_executors)
        else:
            submit_parallel(call, None)
    except Exception:
        logger.exception("the cleanup %s cannot run", describe(function))


@overload
def sync_to_async(
    *,
    thread_sensitive: bool = True,
    executor: Executor | None = None,
    context: contextvars.Context | None = None,
) -> Callable[[Callable[_P, _R]], CoroutineFunction[_P, _R]]: ...


@overload
def sync_to_async(
    func: Callable[_P, _R],
    *,
    thread_sensitive: bool = True,
    executor: Executor | None = None,
    context: contextvars.Context | None = None,
) -> CoroutineFunction[_P, _R]: ...


def sync_to_async(
    func: Callable[_P, _R] | None = None,
    *,
    thread_sensitive: bool = True,
    executor: Executor | None = None,
    context: contextvars.Context | None = None,
) -> Callable[[Callable[_P, _R]], CoroutineFunction[_P, _R]] | CoroutineFunction[_P, _R]:
    """Return an async version of the synchronous function `func`.

    Calling the result returns a coroutine. Awaiting the coroutine runs ``func(*args, **kwargs)`` on
    a thread other than the loop's, and returns its result or raises its exception. (A StopIteration
    becomes a RuntimeError with an explanation.)

    Args:
        func: the function, or any other callable that is not asynchronous. Without it,
            `sync_to_async` returns a decorator.
        thread_sensitive: if true, run all such functions of one call chain on the same thread, one
            at a time: on the thread of the sync code that entered this chain with `async_to_sync`,
            on the thread of the enclosing `ThreadSensitiveContext`, or on one thread that the whole
            process shares. If false, run them concurrently on pooled threads.
        executor: the `concurrent.futures.Executor` to use instead of pooled threads; needs
            ``thread_sensitive=False``. A process or interpreter pool receives the pickled function
            and arguments, but no context variables or hooks.
        context: the `contextvars.Context` to run in. None means a copy of the caller's; the
            function's changes to the copy then propagate to the caller's context (PEP 567).

    Returns:
        A `SyncToAsync` with the name, docstring and parameters of `func`. As a class attribute it
        binds like a method. Without `func`, a decorator that returns one.

    Raises:
        TypeError: `func` is not callable or is a coroutine function, or `executor` is given for
            thread-sensitive code.
        RuntimeError: raised by the call if the thread that it must run on is occupied by code that
            is waiting for the call.

    Cancellation: a call that has not started will never start. A running function keeps running,
    and the caller does not wait for it. The exception is a function that is blocked in
    `async_to_sync`: its coroutine is cancelled, the caller waits for the function, and the call
    returns the function's result or raises its exception.

    >>> import asyncio
    >>> def read(name):
    ...     return f"contents of {name}"
    >>> asyncio.run(sync_to_async(read)("a file"))
    'contents of a file'
    """
    if func is None:
        return lambda function: SyncToAsync(
            function, thread_sensitive=thread_sensitive, executor=executor, context=context
        )
    return SyncToAsync(func, thread_sensitive=thread_sensitive, executor=executor, context=context)
