"""Context managers across the bridge, in both directions.

Entering and exiting are calls like any other, by the rules of `sync_to_async` and `async_to_sync`.
Both run in one `contextvars.Context`, so that a manager can reset on exit the variable that it set
on entry; changes are exchanged with the context of the block before and after each call.

The invariant: a manager that was entered is exited once, however the block and its task end.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Generic, TypeVar

from ._async_to_sync import async_to_sync
from ._iterators import LoopOfSteps
from ._sync_to_async import sync_to_async

_R = TypeVar("_R")
_T_co = TypeVar("_T_co", covariant=True)

_MISSING = object()

_ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def _copy_changes(after: Context, before: Context) -> None:
    """Set in the current context the variables that differ between `before` and `after`."""
    for variable, value in after.items():
        if value is not before.get(variable, _MISSING):
            variable.set(value)


class _ManagerContext:
    """The context in which one manager is entered and exited."""

    __slots__ = ("_context", "_outside")

    def __init__(self) -> None:
        # The block's context as this one knows it; and this one, which is the manager's.
        self._outside = copy_context()
        self._context = copy_context()

    def run(self, function: Callable[..., _R], *args: object) -> _R:
        """Return ``function(*args)``, run in the manager's context."""
        before = self._catch_up()
        try:
            return self._context.run(function, *args)
        finally:
            self._hand_out(before)

    async def run_task(self, function: Callable[..., Awaitable[_R]], *args: object) -> _R:
        """Return ``await function(*args)``, from a task that runs in the manager's context."""

        async def call() -> _R:
            return await function(*args)

        before = self._catch_up()
        try:
            return await asyncio.get_running_loop().create_task(call(), context=self._context)
        finally:
            self._hand_out(before)

    def _catch_up(self) -> Context:
        """Bring what changed in the current context into the manager's; return a snapshot of it."""
        now = copy_context()
        self._context.run(_copy_changes, now, self._outside)
        return self._context.copy()

    def _hand_out(self, before: Context) -> None:
        """Bring what changed in the manager's context since `before` into the current one."""
        _copy_changes(self._context, before)
        self._outside = copy_context()


class _SyncSide(Generic[_T_co]):
    """A synchronous manager and what became of it. Its methods run on worker threads."""

    __slots__ = ("_context", "_is_abandoned", "_is_entered", "_lock", "_manager", "_outcome")

    def __init__(self, manager: AbstractContextManager[_T_co]) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._context: _ManagerContext | None = None
        self._is_entered = False
        self._is_abandoned = False
        self._outcome: tuple[bool | None, BaseException | None] | None = None

    def enter(self) -> _T_co:
        with self._lock:
            if self._is_entered:
                raise RuntimeError(
                    "this context manager is entered already: make one for each block"
                )
            self._context = _ManagerContext()
            value = self._context.run(type(self._manager).__enter__, self._manager)
            self._is_entered, self._outcome = True, None
        if self._is_abandoned:
            self.exit_abandoned()
        return value

    def exit(self, *exc_info: Any) -> tuple[bool | None, BaseException | None]:
        """Exit the manager, unless that was done; return its answer, and what it raised."""
        with self._lock:
            if self._is_entered:
                assert self._context is not None
                self._is_entered = False
                try:
                    exit_manager = type(self._manager).__exit__
                    answer = self._context.run(exit_manager, self._manager, *exc_info)
                    self._outcome = answer, None
                except BaseException as error:
                    self._outcome = None, error
            assert self._outcome is not None
            return self._outcome

    def exit_abandoned(self) -> None:
        """Exit a manager whose task was cancelled while it entered."""
        cancellation = asyncio.CancelledError("the task was cancelled while this manager entered")
        with self._lock:
            is_entered = self._is_entered
        if is_entered:
            _, error = self.exit(type(cancellation), cancellation, None)
            if error is not None and error is not cancellation:
                raise error

    def abandon(self) -> bool:
        """Have an entry that still runs exit again; true if none does and the manager is entered.

        On the loop's thread. The flag is set before the lock is tried, and an entry releases the
        lock before it looks at the flag.
        """
        self._is_abandoned = True
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._is_entered
        finally:
            self._lock.release()


class _AsyncView(AbstractAsyncContextManager[_T_co, bool | None]):
    """The asynchronous manager that `sync_to_async_context` returns."""

    def __init__(self, manager: AbstractContextManager[_T_co], thread_sensitive: bool) -> None:
        side = self._side = _SyncSide(manager)
        self._enter = sync_to_async(side.enter, thread_sensitive=thread_sensitive)
        self._exit = sync_to_async(side.exit, thread_sensitive=thread_sensitive)
        self._clean_up = sync_to_async(side.exit_abandoned, thread_sensitive=thread_sensitive)

    async def __aenter__(self) -> _T_co:
        try:
            return await self._enter()
        except asyncio.CancelledError:
            if self._side.abandon():
                # The loop holds the task until its first step, and then the call does.
                asyncio.get_running_loop().create_task(self._clean_up())
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        cancellation: asyncio.CancelledError | None = None
        while True:
            try:
                answer, error = await self._exit(exc_type, exc_value, traceback)
                break
            except asyncio.CancelledError as cancelled:
                # The block has not ended before the manager has: ask again, and wait.
                cancellation = cancelled
        try:
            if error is not None:
                raise error
            if cancellation is not None:
                raise cancellation
            return answer
        finally:
            del error, cancellation  # their tracebacks lead to this frame


def sync_to_async_context(
    manager: AbstractContextManager[_T_co], *, thread_sensitive: bool = True
) -> AbstractAsyncContextManager[_T_co, bool | None]:
    """Return a synchronous context manager as one for ``async with``.

    ``__enter__`` and ``__exit__`` run as `sync_to_async` runs a function: both on the thread on
    which the thread-sensitive calls of the block run as well. So queries that are made through
    `sync_to_async` inside Django's ``transaction.atomic()`` belong to the transaction.

    Args:
        manager: the context manager, which is not entered yet. Each result serves one block.
        thread_sensitive: as for `sync_to_async`.

    Returns:
        A manager that gives what ``__enter__`` returns. ``__exit__`` sees the exception that ends
        the block, and can suppress it by returning true.

    Raises:
        Exception: what ``__enter__`` and ``__exit__`` raise.

    Changes of context variables by either are the block's afterwards, and a token of the one can be
    used by the other. Cancellation: a task that is cancelled while ``__enter__`` runs does not wait
    for it; the manager is then exited by the thread that entered it. ``__exit__`` runs in any case,
    and the block ends when it has ended, however often the task is cancelled meanwhile.

    >>> import asyncio, contextlib
    >>> @contextlib.contextmanager
    ... def transaction():
    ...     yield "open"
    ...     print("commit")
    >>> async def main():
    ...     async with sync_to_async_context(transaction()) as state:
    ...         print(state)
    >>> asyncio.run(main())
    open
    commit
    """
    return _AsyncView(manager, thread_sensitive)


class _SyncView(AbstractContextManager[_T_co, bool | None]):
    """The synchronous manager that `async_to_sync_context` returns."""

    def __init__(self, manager: AbstractAsyncContextManager[_T_co]) -> None:
        self._manager = manager
        self._context: _ManagerContext | None = None
        self._loop: LoopOfSteps | None = None

    def __enter__(self) -> _T_co:
        if self._context is not None:
            raise RuntimeError("this context manager is entered already: make one for each block")
        self._context = _ManagerContext()
        self._loop = LoopOfSteps()
        try:
            return self._loop.call(async_to_sync(self._enter), self._context)
        except BaseException:
            self._end()
            raise

    async def _enter(self, context: _ManagerContext) -> _T_co:
        return await context.run_task(type(self._manager).__aenter__, self._manager)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        exc_info = exc_type, exc_value, traceback
        assert self._loop is not None
        try:
            return self._loop.call(async_to_sync(self._exit), exc_info)
        finally:
            self._end()

    async def _exit(self, exc_info: _ExcInfo) -> bool | None:
        assert self._context is not None
        exit_manager = type(self._manager).__aexit__
        return await self._context.run_task(exit_manager, self._manager, *exc_info)

    def _end(self) -> None:
        self._context = None
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.end()


def async_to_sync_context(
    manager: AbstractAsyncContextManager[_T_co],
) -> AbstractContextManager[_T_co, bool | None]:
    """Return an asynchronous context manager as one for ``with``.

    ``__aenter__`` and ``__aexit__`` run as `async_to_sync` runs a coroutine: below `sync_to_async`
    on the loop above, at top level on one loop, in another thread, which runs until the block ends.
    Each is a task of its own, so managers that must be left in the task that entered them
    (`asyncio.timeout`, `asyncio.TaskGroup`) do not work.

    Args:
        manager: the context manager, which is not entered yet. Each result serves one block.

    Returns:
        A manager that gives what ``__aenter__`` returns. ``__aexit__`` sees the exception that ends
        the block, and can suppress it by returning true.

    Raises:
        RuntimeError: an event loop runs in this thread: use ``async with`` there.
        Exception: what ``__aenter__`` and ``__aexit__`` raise.

    Changes of context variables by either are the block's afterwards, and a token of the one can be
    used by the other.

    >>> import contextlib
    >>> @contextlib.asynccontextmanager
    ... async def connection():
    ...     yield "connected"
    ...     print("closed")
    >>> with async_to_sync_context(connection()) as state:
    ...     print(state)
    connected
    closed
    """
    return _SyncView(manager)
