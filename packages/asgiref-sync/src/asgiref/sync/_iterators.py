"""Iteration across the bridge, in both directions.

Each step is a call like any other (`sync_to_async`, `async_to_sync`), by the same rules. Two things
are particular to iterating. A generator that is given up halfway has a ``finally`` to run, where
its steps ran: both functions close a generator when they end, however they end, and leave other
iterators alone. And an asynchronous generator must find its loop again at the next step, so at top
level an iteration holds one loop for all its steps.

The invariant: giving an iteration up waits for no step that is still running.
"""

import asyncio
import threading
import types
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextvars import Token
from typing import Generic, TypeVar, cast

from ._async_to_sync import async_to_sync
from ._asyncio_internals import is_loop_running_here
from ._routing import ASYNC_SINGLE_THREAD_CONTEXT, AsyncSingleThreadContext
from ._sync_to_async import sync_to_async
from ._thread_state import thread_state_at_entry

_R = TypeVar("_R")
_T = TypeVar("_T")
_U = TypeVar("_U")
_Generator = types.AsyncGeneratorType[object, object]


class _Source(Generic[_T]):
    """The synchronous side of `sync_to_async_iterator`: an iterator that one thread uses at a time.

    A step whose task was cancelled may still run when the iteration is given up. It closes the
    generator then: `close` sets the flag before it looks at the lock, and a step releases the lock
    before it looks at the flag.
    """

    __slots__ = ("_is_closing", "_iterable", "_iterator", "_lock", "_size")

    def __init__(self, iterable: Iterable[_T], size: int) -> None:
        self._iterable = iterable
        self._iterator: Iterator[_T] | None = None
        self._size = size
        self._lock = threading.Lock()
        self._is_closing = False

    def take(self) -> tuple[list[_T], bool, BaseException | None]:
        """Return the next items, whether there may be more, and the error that ended them early."""
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
            # The items before the error are handed out before the error is raised.
            return items, False, error
        return items, True, None

    @property
    def is_idle_generator(self) -> bool:
        """Whether there is a generator to close, and no step running that can do it."""
        return isinstance(self._iterator, types.GeneratorType) and not self._lock.locked()

    def request_close(self) -> None:
        """Have the step that runs, if one does, close the generator. Any thread."""
        self._is_closing = True

    def close(self) -> None:
        """Close the generator, or leave that to the step that runs. On a worker thread."""
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

    ``iter``, each step, and the closing of a generator run as `sync_to_async` runs a function.

    Args:
        iterable: anything that `iter` takes: a generator, a cursor, a QuerySet, a file.
        thread_sensitive: as for `sync_to_async`.
        batch: how many items are taken in one go, at least 1. More than one saves hops between
            threads, and takes items that may never be asked for.

    Raises:
        ValueError: `batch` is less than 1.
        Exception: what the iterable raises, after the items that came before.

    Changes of context variables are the caller's after each step. When the iteration ends early
    (break, exception) a generator is closed on its thread: by ``async with
    contextlib.aclosing(...)`` at once, else when the event loop's hook for asynchronous generators
    gets to it. A task that is cancelled in a step does not wait for the step, nor for the closing.

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
                    del error  # its traceback keeps this frame
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
                # Cancelled before or meanwhile: have it closed without waiting for that.
                if source.is_idle_generator:
                    # The loop holds the task until its first step, and then the call does.
                    asyncio.get_running_loop().create_task(close())


def async_to_sync_iterator(async_iterable: AsyncIterable[_T]) -> Generator[_T]:
    """Iterate over an asynchronous iterable from synchronous code, as a generator.

    Each step runs as `async_to_sync` runs a coroutine: below `sync_to_async` on the loop above, at
    top level on one loop for all steps, in another thread, which ends with the iteration. Each step
    is a task of its own. The calling thread waits, and runs thread-sensitive code meanwhile.

    When the iteration ends early (break, exception, ``close`` of the generator), an asynchronous
    generator is closed on its loop.

    Args:
        async_iterable: anything that ``async for`` takes.

    Raises:
        RuntimeError: an event loop runs in this thread.
        Exception: what the iterable raises.

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
                item = loop.call(async_to_sync(_anext), iterator)
            except StopAsyncIteration:
                return
            yield item
    finally:
        try:
            # On the thread of an event loop, where the garbage collector may close this generator,
            # nothing may block: the asynchronous generator's own loop closes it.
            if isinstance(iterator, types.AsyncGeneratorType) and not is_loop_running_here():
                loop.call(async_to_sync(_aclose), cast(_Generator, iterator))
        finally:
            loop.end()


async def _anext(iterator: AsyncIterator[_T]) -> _T:
    return await anext(iterator)


async def _aclose(generator: _Generator) -> None:
    await generator.aclose()


class LoopOfSteps:
    """The event loop on which several calls run that belong together, whoever makes them.

    The steps of an iteration, or entering and exiting a context manager: the first step's loop is
    that of all, as long as it runs. At top level it is one of its own, until `end`.
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
        """Return ``function(argument)``, whose calls of `async_to_sync` run on this loop.

        A generator cannot use a ``with`` block: between two steps its consumer is outside.
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
        """End a loop of its own."""
        if self._is_own and self._context is not None:
            self._context.end()
