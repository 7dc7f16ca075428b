"""Iteration across the bridge, in both directions.

Each step is an ordinary call to `sync_to_async` or `async_to_sync` and follows the same rules.
Iteration adds two requirements. An abandoned generator must run its ``finally`` on the thread that
ran its steps, so both functions close a generator, however the iteration ends; they do not close
other iterators. And each step of an asynchronous generator must run on the same loop, so at top
level an iteration keeps one loop for all its steps.

The invariant: abandoning an iteration does not wait for a step that is still running.
"""

import asyncio
import threading
import types
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextvars import Token
from typing import Generic, TypeVar

from ._async_to_sync import async_to_sync
from ._asyncio_internals import is_loop_running_here
from ._routing import ASYNC_SINGLE_THREAD_CONTEXT, AsyncSingleThreadContext
from ._sync_to_async import run_unawaited, sync_to_async
from ._thread_state import thread_state_at_entry

_R = TypeVar("_R")
_T = TypeVar("_T")
_U = TypeVar("_U")


class _Source(Generic[_T]):
    """The synchronous side of `sync_to_async_iterator`: an iterator that one thread uses at a time.

    A step whose task was cancelled may still run when the iteration is abandoned. That step then
    closes the generator: `close` sets the flag before it tries the lock, and a step releases the
    lock before it reads the flag.
    """

    __slots__ = ("_is_closing", "_iterable", "_iterator", "_lock", "_size")

    def __init__(self, iterable: Iterable[_T], size: int) -> None:
        self._iterable = iterable
        self._iterator: Iterator[_T] | None = None
        self._size = size
        self._lock = threading.Lock()
        self._is_closing = False

    def take(self) -> tuple[list[_T], bool, BaseException | None]:
        """Return the next items, whether more may follow, and any error that cut them short."""
        try:
            with self._lock:
                return self._take()
        finally:
            if self._is_closing:
                self.close()

    def _take(self) -> tuple[list[_T], bool, BaseException | None]:
        items: list[_T] = []
        try:
            if self._iterator is None:
                self._iterator = iter(self._iterable)
            while len(items) < self._size:
                items.append(next(self._iterator))
        except StopIteration:
            return items, False, None
        except BaseException as error:
            # The consumer gets the items that precede the error, then the error.
            return items, False, error
        return items, True, None

    @property
    def is_idle_generator(self) -> bool:
        """Whether there is a generator to close and no running step that will close it."""
        return isinstance(self._iterator, types.GeneratorType) and not self._lock.locked()

    def request_close(self) -> None:
        """Make a running step, if any, close the generator. Any thread may call this."""
        self._is_closing = True

    def close(self) -> None:
        """Close the generator, unless a running step will close it. Runs on a worker thread."""
        self._is_closing = True
        if self._lock.acquire(blocking=False):
            try:
                iterator, self._iterator = self._iterator, None
                if isinstance(iterator, types.GeneratorType):
                    iterator.close()
            finally:
                self._lock.release()


async def sync_to_async_iterator(
    iterable: Iterable[_T], *, thread_sensitive: bool = True, batch: int = 1
) -> AsyncGenerator[_T]:
    """Iterate over a synchronous `iterable` from async code, as an asynchronous generator.

    `sync_to_async` runs ``iter`` and each step, and closes the iterator if it is a generator.

    Args:
        iterable: anything that `iter` accepts: a generator, a cursor, a QuerySet, a file.
        thread_sensitive: as for `sync_to_async`.
        batch: the number of items to take in one step, at least 1. A larger number saves hops
            between threads, but takes items that the consumer may never request.

    Raises:
        ValueError: `batch` is less than 1.
        Exception: any exception that the iterable raises, after the items that came before it.

    After each step, its changes to context variables propagate to the caller's context. When the
    iteration ends early (break, exception), a generator is closed on its thread: at once if the
    caller uses ``async with contextlib.aclosing(...)``, otherwise when the event loop's hook for
    asynchronous generators runs. A task that is cancelled during a step does not wait for the step,
    or for the generator to close.

    >>> import asyncio
    >>> async def main():
    ...     return [line async for line in sync_to_async_iterator(iter("abc"), batch=2)]
    >>> asyncio.run(main())
    ['a', 'b', 'c']
    """
    if batch < 1:
        raise ValueError(f"batch must be a positive number of items, not {batch!r}")
    source = _Source(iterable, batch)
    take = sync_to_async(source.take, thread_sensitive=thread_sensitive)
    close = sync_to_async(source.close, thread_sensitive=thread_sensitive)
    more, is_cancelled = True, False
    try:
        while more:
            items, more, error = await take()
            if isinstance(error, asyncio.CancelledError):
                items = []  # a cancellation is raised at once
            for item in items:
                yield item
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # its traceback keeps this frame alive
    except asyncio.CancelledError:
        is_cancelled = True
        raise
    finally:
        source.request_close()
        if more and source.is_idle_generator:
            try:
                if not is_cancelled:
                    await close()
            finally:
                # The task was cancelled before or during `close`: close the generator without
                # waiting.
                if source.is_idle_generator:
                    run_unawaited(source.close, thread_sensitive)


def async_to_sync_iterator(async_iterable: AsyncIterable[_T]) -> Generator[_T]:
    """Iterate over an asynchronous iterable from synchronous code, as a generator.

    Each step is a separate call to `async_to_sync`, in its own task. In a function that
    `sync_to_async` runs, the steps run on the calling loop. At top level they run on one loop in
    another thread, which stops when the iteration ends. While the calling thread waits, it runs
    thread-sensitive code.

    When the iteration ends early (break, exception, the generator's ``close``), an asynchronous
    generator is closed on its loop.

    Args:
        async_iterable: anything that ``async for`` accepts.

    Raises:
        RuntimeError: an event loop runs in this thread.
        Exception: any exception that the iterable raises.

    >>> async def countdown():
    ...     for number in (3, 2, 1):
    ...         yield number
    >>> list(async_to_sync_iterator(countdown()))
    [3, 2, 1]
    """
    iterator = aiter(async_iterable)
    loop = LoopOfSteps()
    try:
        while True:
            try:
                item = loop.call(async_to_sync(_await), lambda: anext(iterator))
            except StopAsyncIteration:
                return
            yield item
    finally:
        try:
            # The garbage collector may close this generator on an event loop's thread, which must
            # not block. The asynchronous generator's own loop closes it then.
            if isinstance(iterator, types.AsyncGeneratorType) and not is_loop_running_here():
                loop.call(async_to_sync(_await), iterator.aclose)
        finally:
            loop.end()


async def _await(method: Callable[[], Awaitable[_R]]) -> _R:
    return await method()


class LoopOfSteps:
    """The event loop that runs several related calls, which any thread may make.

    The steps of an iteration, or entering and exiting a context manager, run on the first
    step's loop as long as that loop runs. At top level they have a separate loop until `end` is
    called.
    """

    __slots__ = ("_context", "_is_own", "_loop", "_pid")

    def __init__(self) -> None:
        state = thread_state_at_entry()
        self._pid = state.pid
        self._loop = state.parent_loop if state.call is not None else None
        self._context = ASYNC_SINGLE_THREAD_CONTEXT.get(None) if self._loop is None else None
        self._is_own = self._loop is None and self._context is None
        if self._is_own:
            self._context = AsyncSingleThreadContext()

    def call(self, function: Callable[[_U], _R], argument: _U) -> _R:
        """Return ``function(argument)``, whose calls to `async_to_sync` run on this loop.

        A generator cannot use a ``with`` block for all its steps, because the context must not be
        active in its consumer's code.
        """
        state = thread_state_at_entry()
        outer = state.parent_loop, state.parent_pid
        token: Token[AsyncSingleThreadContext] | None = None
        try:
            if self._context is not None:
                token = ASYNC_SINGLE_THREAD_CONTEXT.set(self._context)
                state.parent_loop = None
            elif self._loop is not None and self._pid == state.pid and self._loop.is_running():
                state.parent_loop, state.parent_pid = self._loop, state.pid
            return function(argument)
        finally:
            state.parent_loop, state.parent_pid = outer
            if token is not None:
                ASYNC_SINGLE_THREAD_CONTEXT.reset(token)

    def end(self) -> None:
        """Stop the loop if it belongs to these calls alone."""
        if self._is_own and self._context is not None:
            self._context.end()
