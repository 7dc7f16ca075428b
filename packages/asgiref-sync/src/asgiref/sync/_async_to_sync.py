"""`async_to_sync`: call a coroutine function from synchronous code.

Where the coroutine runs, the first that applies:

1. On the loop of the async code that this thread was called from by `sync_to_async`, if that loop
   still runs, unless ``force_new_loop``.
2. Inside `AsyncSingleThreadContext`: on the loop of that block, unless ``force_new_loop``.
3. On a loop of its own in a pooled thread.
4. Where no thread can be started any more (interpreter exit): on a loop of its own in this thread.

The calling thread waits in a frame (`_frames`) and runs there what the coroutine sends back to it.
While it waits it looks now and then whether the wait can still end: a loop that stopped before the
coroutine was started is given up for another one, a loop that was closed with the coroutine on it
is an error.

An exception in the waiting thread itself (KeyboardInterrupt, or whatever a signal handler raises)
cancels the coroutine, waits until it has ended, and goes on, as in `asyncio.run`: if the coroutine
ends by that cancellation or not at all, the exception is raised, and if it completes in spite of
it, KeyboardInterrupt is dropped. A second exception ends the waiting at once.
"""

import asyncio
import contextvars
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._calls import Call
from ._contexts import ask_values, bring_back
from ._coroutines import CoroutineCall, LoopGone
from ._frames import CURRENT_EXECUTOR, CurrentThreadExecutor
from ._handled import ExcInfo
from ._loops import LoopThread, shut_down
from ._markers import describe, iscoroutinefunction
from ._places import PLACES
from ._single_thread import ASYNC_SINGLE_THREAD_CONTEXT
from ._slow_waits import SLOW_WAITS
from ._threads import THREAD
from ._wrapping import adopt_identity

__all__ = ["AsyncToSync", "async_to_sync"]

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

        Below `async_to_sync` this is the frame that waits. Assigning changes it for the current
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
    """

    #: Its attribute ``current`` is where thread-sensitive calls of the current chain run. Below
    #: `async_to_sync` that is the frame that waits, a
    #: `~asgiref.current_thread_executor.CurrentThreadExecutor`, and None elsewhere. Assigning
    #: changes it for the current context and the tasks started from it.
    executors: _Executors = _Executors()
    #: The `AsyncSingleThreadContext` that the current code is in.
    async_single_thread_context = ASYNC_SINGLE_THREAD_CONTEXT

    def __init__(
        self,
        awaitable: Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]],
        force_new_loop: bool = False,
    ) -> None:
        if not callable(awaitable) or (
            not iscoroutinefunction(awaitable)
            and not iscoroutinefunction(getattr(awaitable, "__call__", awaitable))  # noqa: B004
        ):
            # A function that returns an awaitable is legitimate, and not to be told from a mistake.
            warnings.warn("async_to_sync was passed a non-async-marked callable", stacklevel=2)
        adopt_identity(self, awaitable)
        self.awaitable = awaitable
        self.force_new_loop = force_new_loop

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the coroutine function with these arguments, and wait for what comes of it."""
        __traceback_hide__ = True
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "You cannot use AsyncToSync in the same thread as an async event loop: "
                f"await {describe(self.awaitable)} there instead."
            )
        thread = THREAD.record
        awaitable = self.awaitable(*args, **kwargs)
        before = contextvars.copy_context()
        outer = CURRENT_EXECUTOR.get(None)
        frame = CurrentThreadExecutor(outer if isinstance(outer, CurrentThreadExecutor) else None)
        call = CoroutineCall(self.awaitable, frame, thread.thread)
        context = before.copy()
        context.run(CURRENT_EXECUTOR.set, frame)
        contexts = [context]
        call.prepare(
            self.main_wrap(call, sys.exc_info(), None, contexts, awaitable),
            awaitable,
            context,
        )
        del awaitable
        try:
            _run(call, thread.call, self.force_new_loop)
        finally:
            frame.close()
            if len(contexts) > 1:
                bring_back(contexts[0], contexts[1], CURRENT_EXECUTOR)
        return call.outcome()  # type: ignore[no-any-return]

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
        """Await `awaitable` and put what comes of it into `call_result`: a hook for integrations.

        Called on the calling thread, awaited on the loop's.

        Args:
            call_result: has ``set_result`` and ``set_exception``, of which one is called once.
            exc_info: what the calling code handles.
            task_context: always None here.
            context: holds the context to start from; when the outcome is set it holds the context
                at the end, and the one at the start.
            awaitable: what the coroutine function returned.
        """
        __traceback_hide__ = True
        context.append(ask_values(call_result.sender))
        handled = exc_info[1]
        try:
            if handled is None:
                result = await awaitable
            else:
                traceback, chained = handled.__traceback__, handled.__context__
                try:
                    raise handled
                except BaseException:
                    handled.__traceback__, handled.__context__ = traceback, chained
                    del traceback, chained
                    result = await awaitable
        except BaseException as error:
            context[0] = contextvars.copy_context()
            call_result.set_exception(error)
        else:
            context[0] = contextvars.copy_context()
            call_result.set_result(result)
        finally:
            # This frame is part of the traceback of whatever the coroutine raised.
            del handled, exc_info, call_result


def _run(call: CoroutineCall, above: Call | None, force_new_loop: bool) -> None:
    """Have `call` run on the loop that the rules name, and wait until it is finished.

    `above` is the call from async code that this thread runs, if any.
    """
    if above is None:
        _run_at_top_level(call, force_new_loop)
        return
    outer = above.below
    above.below = (*outer, call)
    place = above.place
    if place is not None:
        place.begin_waiting()
    try:
        on_its_loop = not force_new_loop and above.loop.is_running()
        if not on_its_loop or not _begin_and_wait(call, above):
            _run_at_top_level(call, force_new_loop)
    finally:
        above.below = outer
        if place is not None:
            place.end_waiting()


def _run_at_top_level(call: CoroutineCall, force_new_loop: bool) -> None:
    single = None if force_new_loop else ASYNC_SINGLE_THREAD_CONTEXT.get(None)
    while True:
        try:
            thread: LoopThread = PLACES.loops.take() if single is None else single.loop_thread()
        except RuntimeError:
            _run_inline(call)
            return
        if _begin_and_wait(call, thread):
            return


def _run_inline(call: CoroutineCall) -> None:
    """Run `call` on a new loop in this thread, where no other can be started any more."""
    loop = asyncio.new_event_loop()
    call.frame.inline = True
    call.assign(loop, lambda _: loop.stop())
    try:
        loop.call_soon(call.start)
        loop.run_forever()
        call.set_exception(RuntimeError("Event loop stopped before the coroutine was done."))
    finally:
        shut_down(loop)


def _begin_and_wait(call: CoroutineCall, host: Call | LoopThread) -> bool:
    """Have `host` begin `call`, and serve its frame until it is finished.

    False if it needs another loop. To begin is part of what can be interrupted: the coroutine may
    run, and KeyboardInterrupt come, before this thread has got to waiting.
    """
    try:
        try:
            host.begin(call)
        except RuntimeError:  # the loop was closed meanwhile
            return False
        call.frame.serve(*SLOW_WAITS.watch_thread(call))
    except LoopGone:
        return False
    except BaseException as interruption:
        call.cancel()
        call.frame.serve(call.check)
        if call.was_cancelled or not isinstance(interruption, KeyboardInterrupt):
            raise
    return True


@overload
def async_to_sync(
    *,
    force_new_loop: bool = False,
) -> Callable[
    [Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]]], Callable[_P, _R]
]: ...


@overload
def async_to_sync(
    awaitable: Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]],
    *,
    force_new_loop: bool = False,
) -> Callable[_P, _R]: ...


def async_to_sync(
    awaitable: Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]] | None = None,
    *,
    force_new_loop: bool = False,
) -> (
    Callable[
        [Callable[_P, Coroutine[Any, Any, _R]] | Callable[_P, Awaitable[_R]]], Callable[_P, _R]
    ]
    | Callable[_P, _R]
):
    """Return a synchronous version of the coroutine function `awaitable`; without it, a decorator.

    Calling the result calls ``awaitable(*args, **kwargs)`` on the calling thread, awaits what that
    returns as a task, and returns or raises what comes of it. Below `sync_to_async` the task runs
    on the loop of the code that called; elsewhere on a loop that nobody used before, in another
    thread, whose leftover tasks are cancelled and awaited when the call is done (as `asyncio.run`
    does). The calling thread waits, and meanwhile runs the thread-sensitive functions that the
    coroutine calls. Context variables are the caller's, and what the coroutine changed in them is
    set in the caller's context when it is done (PEP 567).

    Args:
        awaitable: a coroutine function, or any other callable that returns an awaitable.
        force_new_loop: use a loop of its own in any case.

    Returns:
        An `AsyncToSync` with the name, text and parameters of `awaitable`; as the attribute of a
        class it binds as a method does. Without `awaitable`, a decorator that makes one.

    Raises:
        RuntimeError: on the call: an event loop runs in this thread (await there instead), or the
            loop was closed under the coroutine.

    Warns:
        UserWarning: `awaitable` does not look like a coroutine function.

    Cancellation: when the task that called this thread by `sync_to_async` is cancelled, so is the
    coroutine. KeyboardInterrupt in the waiting thread cancels the coroutine, and is raised when
    that has ended.

    >>> import asyncio
    >>> async def double(number):
    ...     await asyncio.sleep(0)
    ...     return number * 2
    >>> async_to_sync(double)(21)
    42
    """
    if awaitable is None:
        return lambda function: AsyncToSync(function, force_new_loop=force_new_loop)
    return AsyncToSync(awaitable, force_new_loop=force_new_loop)
