"""`async_to_sync`: call a coroutine function from synchronous code.

A call creates a `CoroutineCall` and starts it on the loop that called this thread through
`sync_to_async`, or else on a loop that `_routing` chooses. The thread then blocks until the
coroutine finishes, and meanwhile runs the functions that the coroutine submits to it. It checks
regularly whether the coroutine can still finish.

The invariant: if a signal handler raises an exception in the blocked thread, at any point of the
call, that exception cancels the coroutine and reaches the caller, even if the coroutine suppresses
the cancellation.
"""

import asyncio
import contextvars
import copy
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import Context
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from . import _observation  # pyright: ignore[reportPrivateUsage]
from ._asyncio_internals import LoopFactory, is_loop_running_here, run_outside_loop
from ._blocking import CURRENT_EXECUTOR, CurrentThreadExecutor
from ._callables import adopt_identity, describe, is_async_callable
from ._calls import CallState, CoroutineCall, ExcInfo, run_handling_coroutine
from ._contextvars import adapt_values, propagate_changes
from ._diagnostics import progress_check
from ._loop_threads import LoopExecutors
from ._routing import (
    ASYNC_SINGLE_THREAD_CONTEXT,
    LOOP_CONTEXT_EXECUTORS,
    LOOP_EXECUTORS,
    run_inline,
    start_on_own_loop,
)
from ._thread_state import PROCESS, ThreadState

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_T = TypeVar("_T")


class _Executors:
    """``AsyncToSync.executors``. Its attribute `current` reads and sets a context variable."""

    __slots__ = ()

    @property
    def current(self) -> Executor | None:
        """The executor of the current chain's thread-sensitive calls; None if other rules apply.

        Inside a call to `async_to_sync`, it runs functions on the blocked thread. Assigning to it
        changes it for the current context (PEP 567) and for tasks started from that context.
        """
        return CURRENT_EXECUTOR.get(None)

    @current.setter
    def current(self, executor: Executor | None) -> None:
        CURRENT_EXECUTOR.set(executor)

    @current.deleter
    def current(self) -> None:
        CURRENT_EXECUTOR.set(None)


class AsyncToSync(Generic[_P, _R]):
    """A synchronous callable that waits for an asynchronous one; see `async_to_sync`.

    Integrations wrap `main_wrap`, and read or assign ``executors.current``.

    Args:
        awaitable: the coroutine function.
        force_new_loop: always run the coroutine on a separate loop.
        loop_factory: creates that loop, and the loop for a call at top level.
        allow_running_loop: block the event loop that runs in the calling thread.
    """

    #: Its attribute ``current`` is the executor of the current chain's thread-sensitive calls.
    #: Inside a call to `async_to_sync`, it is a
    #: `~asgiref.current_thread_executor.CurrentThreadExecutor`, which runs functions on the blocked
    #: thread; elsewhere it is None. Assigning to it changes it for the current context and for
    #: tasks started from that context.
    executors: _Executors = _Executors()
    #: For each loop, the executor of thread-sensitive calls made in an empty context.
    loop_thread_executors: LoopExecutors = LOOP_EXECUTORS
    #: The `AsyncSingleThreadContext` that the current code is in.
    async_single_thread_context = ASYNC_SINGLE_THREAD_CONTEXT
    #: The loop thread of each `AsyncSingleThreadContext` in which a call was made.
    context_to_thread_executor = LOOP_CONTEXT_EXECUTORS

    # These are class attributes because subclasses may skip `__init__`.
    #: Creates the call's own loop. None means the factory that `set_loop_factory` chose.
    loop_factory: LoopFactory | None = None
    #: Whether the call may block an event loop that runs in the calling thread.
    allow_running_loop: bool = False

    def __init__(
        self,
        awaitable: Callable[_P, Awaitable[_R]],
        force_new_loop: bool = False,
        *,
        loop_factory: LoopFactory | None = None,
        allow_running_loop: bool = False,
    ) -> None:
        if not callable(awaitable) or not is_async_callable(awaitable):
            # A plain function that returns an awaitable is usually a mistake, but it works, so only
            # warn.
            warnings.warn("async_to_sync was passed a non-async-marked callable", stacklevel=2)
        adopt_identity(self, awaitable)
        self.awaitable = awaitable
        self.force_new_loop = force_new_loop
        self.loop_factory = loop_factory
        self.allow_running_loop = allow_running_loop

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the coroutine function with these arguments, and wait until it finishes."""
        __traceback_hide__ = True
        if is_loop_running_here():
            return self._call_beside_loop(*args, **kwargs)
        observer = _observation.observer
        called = 0.0 if observer is None else time.perf_counter()
        awaitable = observed = self.awaitable(*args, **kwargs)
        if observer is not None:
            observed = _observation.ObservedAwaitable(self.awaitable, awaitable, observer, called)
        outer = CURRENT_EXECUTOR.get(None)
        executor = CurrentThreadExecutor(
            outer if isinstance(outer, CurrentThreadExecutor) else None
        )
        call = CoroutineCall(self.awaitable, executor, executor.state)
        context = contextvars.copy_context()
        context.run(CURRENT_EXECUTOR.set, executor)
        contexts = [context]
        try:
            tasks = executor.state.task_context
            wrapped = self.main_wrap(call, sys.exc_info(), tasks, contexts, observed)
            call.prepare(wrapped, awaitable, context, self._is_hooked())
            del awaitable, observed, wrapped
            _run(call, executor.state, self)
        finally:
            executor.close()
            if call.state is not CallState.RUNNING:  # a second interrupt leaves it running
                call.close_coroutine()
            if len(contexts) > 1:
                propagate_changes(contexts[0], contexts[1], CURRENT_EXECUTOR)
        return call.take_outcome()  # type: ignore[no-any-return]

    def _is_hooked(self) -> bool:
        """Whether an integration has wrapped or replaced `main_wrap`."""
        return type(self).main_wrap is not _plain_main_wrap or "main_wrap" in self.__dict__

    def _call_beside_loop(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Make the call on the thread of an event loop, which blocks until the call finishes."""
        __traceback_hide__ = True
        if not self.allow_running_loop:
            raise RuntimeError(
                "You cannot use AsyncToSync in the same thread as an async event loop: "
                f"await {describe(self.awaitable)} there instead, or pass allow_running_loop=True "
                "to block that loop until a loop in another thread has run the coroutine."
            )
        forced = copy.copy(self)
        forced.force_new_loop = True
        return run_outside_loop(forced, *args, **kwargs)

    @overload
    def __get__(self, parent: None, objtype: type[Any]) -> Callable[_P, _R]: ...

    @overload
    def __get__(
        self: "AsyncToSync[Concatenate[_T, _Q], _R]", parent: _T, objtype: type[Any] | None = None
    ) -> Callable[_Q, _R]: ...

    def __get__(self, parent: Any, objtype: Any = None) -> Callable[..., _R]:
        return self if parent is None else MethodType(self, parent)

    async def main_wrap(
        self,
        call_result: CoroutineCall,
        exc_info: ExcInfo,
        task_context: Any,
        context: list[Context],
        awaitable: Awaitable[_R],
    ) -> None:
        """Await `awaitable` and set its outcome on `call_result`. Integrations can wrap this hook.

        The calling thread calls this method; the loop's thread awaits the result.

        Args:
            call_result: the object whose `set_result` or `set_exception` this method calls, once.
            exc_info: the value of `sys.exc_info()` in the calling code.
            task_context: a list to which this method adds its task while it runs, or None.
            context: a list that holds the context to start from. Once the outcome is set, it holds
                the final context followed by the initial one.
            awaitable: the object that the coroutine function returned.
        """
        __traceback_hide__ = True
        context.append(adapt_values(call_result.sending_thread))
        if task_context is not None:
            task_context.append(asyncio.current_task())
        try:
            if exc_info[1] is None:
                result = await awaitable
            else:
                result = await run_handling_coroutine(exc_info[1], awaitable)
        except BaseException as error:
            context[0] = contextvars.copy_context()
            call_result.set_exception(error)
        else:
            context[0] = contextvars.copy_context()
            call_result.set_result(result)
        finally:
            if task_context is not None:
                task_context.remove(asyncio.current_task())
            # The traceback of the coroutine's exception keeps this frame alive.
            del exc_info, call_result


_plain_main_wrap: Any = AsyncToSync[..., Any].main_wrap


def _run(call: CoroutineCall, state: ThreadState, wrapper: AsyncToSync[..., Any]) -> None:
    """Run `call` on the loop that the rules choose, and block until it is over."""
    above, outer = state.call, state.coroutine_call
    try:
        state.coroutine_call = call
        if above is None:
            _run_on_some_loop(call, state, wrapper)
            return
        call.outer, above.blocked_in = above.blocked_in, call
        if above.limiter is None:
            _run_on_some_loop(call, state, wrapper)
        else:
            with above.limiter.lend_token(above):
                _run_on_some_loop(call, state, wrapper)
    finally:
        state.coroutine_call = outer
        if above is not None and above.blocked_in is call:
            above.blocked_in = call.outer


def _run_on_some_loop(
    call: CoroutineCall, state: ThreadState, wrapper: AsyncToSync[..., Any]
) -> None:
    loop = state.parent_loop
    if (
        loop is not None
        and not wrapper.force_new_loop
        and state.parent_pid == state.pid
        and loop.is_running()
        and _block(call, _start_on_parent, state, loop)
    ):
        return
    executors, factory = wrapper.loop_thread_executors, wrapper.loop_factory
    while PROCESS.is_exiting or not _block(
        call, start_on_own_loop, executors, wrapper.force_new_loop, factory
    ):
        if PROCESS.is_exiting:
            run_inline(call, executors, factory)
            return


def _start_on_parent(
    call: CoroutineCall, state: ThreadState, loop: asyncio.AbstractEventLoop
) -> bool:
    """Start `call` on the loop that called this thread. Return False if that loop is closed."""
    if not call.assign(loop):
        return True
    above = state.call
    if above is not None and above.loop is loop:
        return above.completion_queue.put(call.start)
    try:
        loop.call_soon_threadsafe(call.start)
    except RuntimeError:
        return False
    return True


def _block(call: CoroutineCall, start: Callable[..., bool], *arguments: Any) -> bool:
    """Start `call` and block until it is over. Return False if it needs another loop.

    A signal handler can raise at any line, even before the call is started.
    """
    try:
        if not start(call, *arguments):
            return call.is_over
        return call.executor.serve(*progress_check(call))
    except BaseException:
        call.cancel()
        call.executor.serve(call.check_progress)
        raise


@overload
def async_to_sync(
    *,
    force_new_loop: bool = False,
    loop_factory: LoopFactory | None = None,
    allow_running_loop: bool = False,
) -> Callable[[Callable[_P, Awaitable[_R]]], Callable[_P, _R]]: ...


@overload
def async_to_sync(
    awaitable: Callable[_P, Awaitable[_R]],
    *,
    force_new_loop: bool = False,
    loop_factory: LoopFactory | None = None,
    allow_running_loop: bool = False,
) -> Callable[_P, _R]: ...


def async_to_sync(
    awaitable: Callable[_P, Awaitable[_R]] | None = None,
    *,
    force_new_loop: bool = False,
    loop_factory: LoopFactory | None = None,
    allow_running_loop: bool = False,
) -> Callable[[Callable[_P, Awaitable[_R]]], Callable[_P, _R]] | Callable[_P, _R]:
    """Return a synchronous version of the coroutine function `awaitable`.

    Calling the result calls ``awaitable(*args, **kwargs)`` on the calling thread, awaits the
    returned object in a task, and returns its result or raises its exception. In a function that
    `sync_to_async` runs, the task runs on the calling code's loop. Elsewhere (at top level) it
    runs in another thread, on a loop without state from earlier calls; when the call is done, tasks
    left on that loop are cancelled and awaited (as `asyncio.run` does). The thread may have run
    earlier calls, so a coroutine can see values that an earlier one set in a plain
    `threading.local`. While the calling thread is blocked, it runs the thread-sensitive functions
    that the coroutine calls. The coroutine starts with the caller's context variables. When it
    finishes, its changes to them propagate to the caller's context (PEP 567).

    Args:
        awaitable: a coroutine function, or any other callable that returns an awaitable. Without
            it, `async_to_sync` returns a decorator.
        force_new_loop: always run the coroutine on a separate loop.
        loop_factory: creates that loop, and the loop for a call at top level. It is called without
            arguments on the new loop's thread. None means the factory that was passed to
            `set_loop_factory`, or asyncio's default. Calls in an `AsyncSingleThreadContext` use the
            context's loop instead.
        allow_running_loop: if an event loop runs in this thread (in a notebook, or in a synchronous
            method that async code calls), run the coroutine on a separate loop in another thread,
            and block this thread and its loop until it finishes. The call deadlocks if the
            coroutine waits for anything that needs the blocked loop: one of its tasks, a lock that
            one of its tasks holds, or a connection that belongs to it.

    Returns:
        An `AsyncToSync` with the name, docstring and parameters of `awaitable`. As a class
        attribute it binds like a method. Without `awaitable`, a decorator that returns one.

    Raises:
        RuntimeError: raised by the call if an event loop runs in this thread (await there instead,
            or see `allow_running_loop`), or if the loop is closed before the coroutine finishes.

    Warns:
        UserWarning: `awaitable` does not look like a coroutine function.

    Cancellation: cancelling the task that called this thread through `sync_to_async` cancels the
    coroutine. KeyboardInterrupt in the blocked thread, or any other exception from a signal
    handler, cancels the coroutine and is raised once the coroutine has finished. A second one is
    raised immediately.

    >>> import asyncio
    >>> async def double(number):
    ...     await asyncio.sleep(0)
    ...     return number * 2
    >>> async_to_sync(double)(21)
    42
    """
    options: dict[str, Any] = {
        "force_new_loop": force_new_loop,
        "loop_factory": loop_factory,
        "allow_running_loop": allow_running_loop,
    }
    if awaitable is None:
        return lambda function: AsyncToSync(function, **options)
    return AsyncToSync(awaitable, **options)
