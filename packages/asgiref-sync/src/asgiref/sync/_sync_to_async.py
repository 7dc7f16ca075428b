"""`sync_to_async`: call a synchronous function from async code.

What one call does: take a snapshot of the context, make a `Call`, have `_placement` queue it, await
it, bring back what the function changed in its context. Hooks of integrations (see
`SyncToAsync.thread_handler`) are looked for once per call, by comparing the class's attribute with
the original; nobody else pays for them.

References: an exception holds its traceback, and the traceback this coroutine's frame. The frame
drops the call before it lets an exception out, or the arguments of each call that fails would wait
for the cyclic collector.
"""

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._calls import Call
from ._contexts import bring_back, sender_of_values
from ._foreign import Submitter
from ._handled import run_handling
from ._inbox import inbox_of
from ._markers import describe, iscoroutinefunction, markcoroutinefunction
from ._placement import DEADLOCK_CONTEXT, place_parallel, place_sensitive
from ._places import PLACES
from ._slow_waits import SLOW_WAITS
from ._thread_contexts import THREAD_SENSITIVE_CONTEXT, ContextExecutors
from ._threads import THREAD
from ._wrapping import adopt_identity

__all__ = ["SyncToAsync", "sync_to_async"]

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_T = TypeVar("_T")


class SyncToAsync(Generic[_P, _R]):
    """An async callable that runs a synchronous one on a worker thread; see `sync_to_async`.

    Integrations subclass this, or replace methods on it. What they can rely on: `func` is the
    function; `__call__` passes its arguments through; `thread_handler` runs on the worker thread
    around each call; the class attributes below are read at each call.

    Args:
        func: the function.
        thread_sensitive: whether it runs where the others of its chain do.
        executor: runs it instead of the pool, with ``thread_sensitive=False``.
        context: the `contextvars.Context` to run in; None: a copy of the caller's.
    """

    #: Runs thread-sensitive calls that belong nowhere else. Any object with `submit` will do.
    single_thread_executor: Submitter = PLACES.shared
    #: The `ThreadSensitiveContext` that the current code is in.
    thread_sensitive_context = THREAD_SENSITIVE_CONTEXT
    #: The executor of each `ThreadSensitiveContext` that has one now.
    context_to_thread_executor: ContextExecutors = ContextExecutors()
    #: Set to true by code that occupies the shared thread and must not wait for it.
    deadlock_context = DEADLOCK_CONTEXT

    def __init__(
        self,
        func: Callable[_P, _R],
        thread_sensitive: bool = True,
        executor: Executor | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        if (
            not callable(func)
            or iscoroutinefunction(func)
            or iscoroutinefunction(getattr(func, "__call__", func))  # noqa: B004
        ):
            # asgiref's callers compare the arguments of this exception; the culprit is in a note.
            refusal = TypeError("sync_to_async can only be applied to sync functions.")
            refusal.add_note(f"It was applied to {describe(func)}.")
            raise refusal
        if thread_sensitive and executor is not None:
            raise TypeError(
                f"executor must not be set when thread_sensitive is True, as for {describe(func)}: "
                "pass thread_sensitive=False with it"
            )
        adopt_identity(self, func)
        self.func = func
        self.context = context
        self._thread_sensitive = thread_sensitive
        self._executor = executor
        markcoroutinefunction(self)

    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run the function, with these arguments, on the thread that is its place."""
        __traceback_hide__ = True
        loop = asyncio.get_running_loop()
        thread = THREAD.record
        before = contextvars.copy_context()
        own_context = self.context
        call = Call(
            self.func,
            args,
            kwargs,
            before.copy() if own_context is None else own_context,
            before,
            sys.exception(),
            loop,
            inbox_of(loop, thread),
            sender_of_values(thread),
        )
        if type(self).thread_handler is not _plain_thread_handler:
            call.handler = self.thread_handler
        timer = None if SLOW_WAITS.seconds is None else SLOW_WAITS.watch_task(call)
        try:
            if self._thread_sensitive:
                place_sensitive(call, thread, self.single_thread_executor)
            else:
                place_parallel(call, self._executor)
            while True:
                try:
                    await call
                    break
                except asyncio.CancelledError:
                    if call.done() or not call.give_up():
                        raise
            return call.outcome()  # type: ignore[no-any-return]
        finally:
            if own_context is None and call.done():
                bring_back(call.context, call.before)
            if timer is not None:
                timer.cancel()
            del call, before

    @overload
    def __get__(
        self, parent: None, objtype: type[Any]
    ) -> Callable[_P, Coroutine[Any, Any, _R]]: ...

    @overload
    def __get__(
        self: "SyncToAsync[Concatenate[_T, _Q], _R]", parent: _T, objtype: type[Any] | None = None
    ) -> Callable[_Q, Coroutine[Any, Any, _R]]: ...

    def __get__(self, parent: Any, objtype: Any = None) -> Callable[..., Coroutine[Any, Any, _R]]:
        return self if parent is None else MethodType(self, parent)

    def thread_handler(
        self,
        loop: asyncio.AbstractEventLoop,
        exc_info: Any,
        task_context: Any,
        func: Callable[..., _R],
        *args: Any,
        **kwargs: Any,
    ) -> _R:
        """Run one call on its worker thread: a hook for integrations, which override or wrap it.

        What surrounds the call of `func` here runs in the context of the worker thread, `func`
        itself in that of the call.

        Args:
            loop: the caller's event loop.
            exc_info: what `sys.exc_info()` was where the call was made.
            task_context: opaque.
            func: to be called with `args` and `kwargs`.
            args: one argument, the ``child``: a `functools.partial` of the wrapped function with
                the arguments of the call, which may be changed before.
            kwargs: none.

        Returns:
            What `func` returned; it is the result of the call.
        """
        __traceback_hide__ = True
        if exc_info[1] is None:
            return func(*args, **kwargs)
        return run_handling(exc_info[1], partial(func, *args, **kwargs))


_plain_thread_handler: Any = SyncToAsync[..., Any].thread_handler


@overload
def sync_to_async(
    *,
    thread_sensitive: bool = True,
    executor: Executor | None = None,
    context: contextvars.Context | None = None,
) -> Callable[[Callable[_P, _R]], Callable[_P, Coroutine[Any, Any, _R]]]: ...


@overload
def sync_to_async(
    func: Callable[_P, _R],
    *,
    thread_sensitive: bool = True,
    executor: Executor | None = None,
    context: contextvars.Context | None = None,
) -> Callable[_P, Coroutine[Any, Any, _R]]: ...


def sync_to_async(
    func: Callable[_P, _R] | None = None,
    *,
    thread_sensitive: bool = True,
    executor: Executor | None = None,
    context: contextvars.Context | None = None,
) -> (
    Callable[[Callable[_P, _R]], Callable[_P, Coroutine[Any, Any, _R]]]
    | Callable[_P, Coroutine[Any, Any, _R]]
):
    """Return an async version of the synchronous function `func`; without `func`, a decorator.

    Calling the result returns a coroutine; awaited, it runs ``func(*args, **kwargs)`` on a thread
    that is not the loop's and returns or raises what that does (a StopIteration becomes a
    RuntimeError that says so).

    Args:
        func: the function, or any other callable that is not asynchronous.
        thread_sensitive: True: all such functions of one chain run on the same thread, one after
            the other. That is the thread of the sync code that called `async_to_sync` above them,
            the thread of the `ThreadSensitiveContext` around them, or one thread that the process
            has for this. False: they run on any of a number of pooled threads, side by side.
        executor: any `concurrent.futures.Executor` runs them instead; only with
            ``thread_sensitive=False``. One of processes or interpreters is sent the function and
            its arguments, pickled; context variables and hooks stay here.
        context: the `contextvars.Context` to run in. None: a copy of the caller's, and what the
            function changed in it is set in the caller's when it is done (PEP 567).

    Returns:
        A `SyncToAsync` with the name, text and parameters of `func`; as the attribute of a class it
        binds as a method does. Without `func`, a decorator that makes one.

    Raises:
        TypeError: `func` is not callable, or is a coroutine function; or `executor` is given for
            thread-sensitive code.
        RuntimeError: on the call: the thread it must run on is occupied by code that waits for it.

    Cancellation: a call that has not begun never does. One that runs goes on, and the caller does
    not wait for it, except where it waits in `async_to_sync`: the coroutine there is cancelled, the
    function is waited for, and what it makes of this is the outcome.

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
