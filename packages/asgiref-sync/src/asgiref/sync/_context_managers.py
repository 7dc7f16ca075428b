"""Context managers across the bridge, in both directions.

Entering and exiting are ordinary calls to `sync_to_async` or `async_to_sync`, and follow the same
rules. Both run in one `contextvars.Context`, so a manager can set a variable on entry and reset it
on exit. Before and after each call, changes are copied between that context and the block's.

The invariant: each entered manager is exited once, even if the block or its task ends early.
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
from ._sync_to_async import run_unawaited, sync_to_async

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
        # The block's context when the two were last synchronised, and the manager's context.
        self._outside = copy_context()
        self._context = copy_context()

    def run(self, function: Callable[..., _R], *args: object) -> _R:
        """Return ``function(*args)``, run in the manager's context."""
        before = self._copy_in()
        try:
            return self._context.run(function, *args)
        finally:
            self._copy_out(before)

    async def run_task(self, function: Callable[..., Awaitable[_R]], *args: object) -> _R:
        """Return ``await function(*args)``, awaited by a task in the manager's context."""

        async def call() -> _R:
            return await function(*args)

        before = self._copy_in()
        try:
            return await asyncio.get_running_loop().create_task(call(), context=self._context)
        finally:
            self._copy_out(before)

    def _copy_in(self) -> Context:
        """Copy the current context's changes to the manager's context.

        Return a copy of the manager's context.
        """
        now = copy_context()
        self._context.run(_copy_changes, now, self._outside)
        return self._context.copy()

    def _copy_out(self, before: Context) -> None:
        """Copy the changes made in the manager's context since `before` to the current one."""
        _copy_changes(self._context, before)
        self._outside = copy_context()


class _SyncSide(Generic[_T_co]):
    """A synchronous manager, its state, and its outcome. The methods run on worker threads."""

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
                    "this context manager is already entered: create one for each block"
                )
            self._context = _ManagerContext()
            value = self._context.run(type(self._manager).__enter__, self._manager)
            self._is_entered, self._outcome = True, None
        if self._is_abandoned:
            self.exit_abandoned()
        return value

    def exit(self, *exc_info: Any) -> tuple[bool | None, BaseException | None]:
        """Exit the manager if it is entered. Return the result and the error of ``__exit__``."""
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
        """Exit a manager whose task was cancelled during ``__enter__``."""
        cancellation = asyncio.CancelledError("the task was cancelled while entering this manager")
        with self._lock:
            is_entered = self._is_entered
        if is_entered:
            _, error = self.exit(type(cancellation), cancellation, None)
            if error is not None and error is not cancellation:
                raise error

    def abandon(self) -> bool:
        """If a thread is entering the manager, make it exit the manager afterwards.

        Call this on the loop's thread. It sets the flag before it tries the lock, and `enter`
        releases the lock before it reads the flag.

        Returns:
            True if no thread is entering the manager and it is entered, so the caller must exit it.
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
        self._thread_sensitive = thread_sensitive

    async def __aenter__(self) -> _T_co:
        try:
            return await self._enter()
        except asyncio.CancelledError:
            if self._side.abandon():
                run_unawaited(self._side.exit_abandoned, self._thread_sensitive)
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
                # The block must not end before the manager has exited: wait for that again.
                cancellation = cancelled
        try:
            if error is not None:
                raise error
            if cancellation is not None:
                raise cancellation
            return answer
        finally:
            del error, cancellation  # their tracebacks keep this frame alive


def sync_to_async_context(
    manager: AbstractContextManager[_T_co], *, thread_sensitive: bool = True
) -> AbstractAsyncContextManager[_T_co, bool | None]:
    """Return an asynchronous version, for ``async with``, of a synchronous context manager.

    `sync_to_async` runs ``__enter__`` and ``__exit__``, on the thread that also runs the block's
    thread-sensitive calls. Queries made through `sync_to_async` inside Django's
    ``transaction.atomic()`` therefore belong to the transaction.

    Args:
        manager: the context manager, not yet entered. Use each result for one block.
        thread_sensitive: as for `sync_to_async`.

    Returns:
        A manager whose ``async with`` gives the result of ``__enter__``. ``__exit__`` receives the
        exception that ends the block, and can suppress it by returning true.

    Raises:
        Exception: any exception that ``__enter__`` or ``__exit__`` raises.

    Changes that ``__enter__`` and ``__exit__`` make to context variables propagate to the block's
    context, and ``__exit__`` can reset a variable with a token from ``__enter__``. Cancellation: a
    task that is cancelled during ``__enter__`` does not wait for it; the thread that entered the
    manager then exits it.
    ``__exit__`` always runs, and the block waits for it even if the task is cancelled meanwhile.

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
            raise RuntimeError("this context manager is already entered: create one for each block")
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
    """Return a synchronous version, for ``with``, of an asynchronous context manager.

    `async_to_sync` runs ``__aenter__`` and ``__aexit__``: in a function that `sync_to_async` runs,
    on the calling loop; at top level, on one loop in another thread, which runs until the block
    ends. Each runs in its own task, so managers that must exit in the task that entered them
    (`asyncio.timeout`, `asyncio.TaskGroup`) do not work.

    Args:
        manager: the context manager, not yet entered. Use each result for one block.

    Returns:
        A manager whose ``with`` gives the result of ``__aenter__``. ``__aexit__`` receives the
        exception that ends the block, and can suppress it by returning true.

    Raises:
        RuntimeError: an event loop runs in this thread; use ``async with`` there.
        Exception: any exception that ``__aenter__`` or ``__aexit__`` raises.

    Changes that ``__aenter__`` and ``__aexit__`` make to context variables propagate to the block's
    context, and ``__aexit__`` can reset a variable with a token from ``__aenter__``.

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
