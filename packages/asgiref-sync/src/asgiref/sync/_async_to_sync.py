"""`async_to_sync`: call a coroutine function from synchronous code.

One call: make a `CoroutineCall`, have it started on the loop that called this thread or on one that
`_routing` names, and block, running the functions that the coroutine sends to this thread, until it
is finished. While the thread is blocked it checks now and then whether the end can still come.

The invariant: an exception that a signal handler raises in the blocked thread cancels the coroutine
and is raised in the caller, at whatever point it comes and whatever the coroutine makes of it.
"""

import asyncio
import contextvars
import copy
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from . import _observation
from ._asyncio_internals import LoopFactory, is_loop_running_here, run_outside_loop
from ._blocking import CURRENT_EXECUTOR, CurrentThreadExecutor
from ._callables import adopt_identity, describe, iscoroutinefunction
from ._calls import CallState, CoroutineCall, ExcInfo, run_handling_coroutine
from ._contextvars import adapt_values, propagate_changes
from ._diagnostics import check_of
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
    """``AsyncToSync.executors``: its attribute `current` is a context variable by another name."""

    __slots__ = ()

    @property
    def current(self) -> Executor | None:
        """Where thread-sensitive calls of the current chain run; None: by the other rules.

        Below `async_to_sync` this is the blocked thread. Assigning changes it for the current
        context (PEP 567) and the tasks started from it.
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
        force_new_loop: use a loop of its own in any case.
        loop_factory: makes that loop, or another where no loop called the thread.
        allow_running_loop: block the event loop that runs in the calling thread.
    """

    #: Its attribute ``current`` is where thread-sensitive calls of the current chain run. Below
    #: `async_to_sync` that is the blocked thread, as a
    #: `~asgiref.current_thread_executor.CurrentThreadExecutor`, and None elsewhere. Assigning
    #: changes it for the current context and the tasks started from it.
    executors: _Executors = _Executors()
    #: Where the thread-sensitive calls of a loop run whose context names no place.
    loop_thread_executors: LoopExecutors = LOOP_EXECUTORS
    #: The `AsyncSingleThreadContext` that the current code is in.
    async_single_thread_context = ASYNC_SINGLE_THREAD_CONTEXT
    #: Where the coroutines of each `AsyncSingleThreadContext` run that has made a call.
    context_to_thread_executor = LOOP_CONTEXT_EXECUTORS

    # Subclasses may not call `__init__`.
    loop_factory: LoopFactory | None = None
    allow_running_loop: bool = False

    def __init__(
        self,
        awaitable: Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]],
        force_new_loop: bool = False,
        *,
        loop_factory: LoopFactory | None = None,
        allow_running_loop: bool = False,
    ) -> None:
        if not callable(awaitable) or (
            not iscoroutinefunction(awaitable)
            and not iscoroutinefunction(getattr(awaitable, "__call__", awaitable))  # noqa: B004
        ):
            # A function that returns an awaitable is legitimate, and looks like a mistake.
            warnings.warn("async_to_sync was passed a non-async-marked callable", stacklevel=2)
        adopt_identity(self, awaitable)
        self.awaitable = awaitable
        self.force_new_loop = force_new_loop
        self.loop_factory = loop_factory
        self.allow_running_loop = allow_running_loop

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the coroutine function with these arguments, and wait until it is finished."""
        __traceback_hide__ = True
        if is_loop_running_here():
            return self._call_beside_loop(*args, **kwargs)
        observer = _observation.observer
        called = 0.0 if observer is None else time.perf_counter()
        awaitable = self.awaitable(*args, **kwargs)
        if observer is not None:
            awaitable = _observation.observe_awaitable(self.awaitable, awaitable, observer, called)
        outer = CURRENT_EXECUTOR.get(None)
        executor = CurrentThreadExecutor(
            outer if isinstance(outer, CurrentThreadExecutor) else None
        )
        call = CoroutineCall(self.awaitable, executor, executor.state)
        context = contextvars.copy_context()
        context.run(CURRENT_EXECUTOR.set, executor)
        contexts = [context]
        try:
            wrapped = self.main_wrap(call, sys.exc_info(), None, contexts, awaitable)
            call.prepare(wrapped, awaitable, context, self._is_hooked())
            del awaitable, wrapped
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
        """Make the call in the thread of an event loop, which is blocked meanwhile."""
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
        """Await `awaitable` and put its outcome into `call_result`: a hook for integrations.

        Called on the calling thread, awaited on the loop's.

        Args:
            call_result: has ``set_result`` and ``set_exception``, of which one is called once.
            exc_info: what the calling code handles.
            task_context: always None here.
            context: holds the context to start from; when the outcome is set it holds the context
                at the end, and the one at the start.
            awaitable: the object that the coroutine function returned.
        """
        __traceback_hide__ = True
        context.append(adapt_values(call_result.sender))
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
            # This frame is part of the traceback of whatever the coroutine raised.
            del exc_info, call_result


_plain_main_wrap: Any = AsyncToSync[..., Any].main_wrap


def _run(call: CoroutineCall, state: ThreadState, wrapper: AsyncToSync[..., Any]) -> None:
    """Block until `call` is over on the loop that the rules name."""
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
    """Start `call` on the loop that called this thread; false if that is closed."""
    if not call.assign(loop):
        return True
    above = state.call
    if above is not None and above.loop is loop:
        return above.queue.put(call.start)
    try:
        loop.call_soon_threadsafe(call.start)
    except RuntimeError:
        return False
    return True


def _block(call: CoroutineCall, start: Callable[..., bool], *arguments: Any) -> bool:
    """Start `call` and block until it is over; false if it needs another loop.

    An exception of a signal handler can come at any line, also before the call is started.
    """
    try:
        return call.executor.serve(*check_of(call)) if start(call, *arguments) else call.is_over
    except BaseException:
        call.cancel()
        call.executor.serve(call.can_finish)
        raise


@overload
def async_to_sync(
    *,
    force_new_loop: bool = False,
    loop_factory: LoopFactory | None = None,
    allow_running_loop: bool = False,
) -> Callable[
    [Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]]], Callable[_P, _R]
]: ...


@overload
def async_to_sync(
    awaitable: Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]],
    *,
    force_new_loop: bool = False,
    loop_factory: LoopFactory | None = None,
    allow_running_loop: bool = False,
) -> Callable[_P, _R]: ...


def async_to_sync(
    awaitable: Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]] | None = None,
    *,
    force_new_loop: bool = False,
    loop_factory: LoopFactory | None = None,
    allow_running_loop: bool = False,
) -> (
    Callable[
        [Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]]], Callable[_P, _R]
    ]
    | Callable[_P, _R]
):
    """Return a synchronous version of the coroutine function `awaitable`; without it, a decorator.

    Calling the result calls ``awaitable(*args, **kwargs)`` on the calling thread, awaits what that
    returns as a task, and returns its result or raises its exception. Below `sync_to_async` the
    task runs on the loop of the code that called; elsewhere on a loop that is as good as new, in
    another thread, whose leftover tasks are cancelled and awaited when the call is done (as
    `asyncio.run` does). The calling thread is blocked, and meanwhile runs the thread-sensitive
    functions that the coroutine calls. Context variables are the caller's, and the coroutine's
    changes are set in the caller's context when it is done (PEP 567).

    Args:
        awaitable: a coroutine function, or any other callable that returns an awaitable.
        force_new_loop: use a loop of its own in any case.
        loop_factory: makes that loop, or another one where no loop called this thread; called
            without arguments, on the loop's thread. None: the choice of `set_loop_factory`, or
            asyncio's. In an `AsyncSingleThreadContext` the context's loop is used.
        allow_running_loop: where an event loop runs in this thread (in a notebook, or in a
            synchronous method that async code calls), run the coroutine on a loop of its own in
            another thread, and block this thread and its loop until it is finished. That deadlocks
            if the coroutine waits for something of the blocked loop: one of its tasks, a lock that
            a task of it holds, a connection that belongs to it.

    Returns:
        An `AsyncToSync` with the name, text and parameters of `awaitable`; as the attribute of a
        class it binds as a method does. Without `awaitable`, a decorator that makes one.

    Raises:
        RuntimeError: on the call: an event loop runs in this thread (await there instead, or see
            `allow_running_loop`), or the loop was closed under the coroutine.

    Warns:
        UserWarning: `awaitable` does not look like a coroutine function.

    Cancellation: when the task that called this thread by `sync_to_async` is cancelled, so is the
    coroutine. KeyboardInterrupt in the blocked thread, or any other exception of a signal handler,
    cancels the coroutine, and is raised when that has ended. A second one is raised at once.

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
