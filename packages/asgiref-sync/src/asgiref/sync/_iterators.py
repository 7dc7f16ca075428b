"""Iteration across the bridge, in both directions.

Each step is a call like any other (`sync_to_async`, `async_to_sync`): the rules about threads and
loops, context variables, exceptions and cancellation are those of the calls, and there is nothing
to say about them here. Two things are particular to iterating:

* What was begun must be ended on the right side. A generator that is given up halfway has a
  ``finally`` to run, and it must run where the steps did, not where the last reference dies. Both
  functions therefore close what they iterate on when they end, however they end. An iterator that
  is no generator is left alone: to stop reading a file does not mean to close it.
* An asynchronous generator must find its loop again at the next step. At top level each call has a
  loop to itself, so the iteration holds one for all its steps (an `AsyncSingleThreadContext` that
  is active only during each step, since the steps' caller has code of its own in between).
"""

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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, TypeVar, cast

from ._async_to_sync import async_to_sync
from ._single_thread import ASYNC_SINGLE_THREAD_CONTEXT, AsyncSingleThreadContext
from ._sync_to_async import sync_to_async
from ._threads import THREAD

__all__ = ["async_to_sync_iterator", "sync_to_async_iterator"]

_T = TypeVar("_T")


class _Batches(Generic[_T]):
    """The synchronous side of `sync_to_async_iterator`; each method runs on a worker thread.

    A step whose task was cancelled still runs when the iteration is closed, with parallel threads
    at the same time: hence the lock.
    """

    __slots__ = ("_iterable", "_iterator", "_lock", "_size")

    def __init__(self, iterable: Iterable[_T], size: int) -> None:
        self._iterable = iterable
        self._iterator: Iterator[_T] | None = None
        self._size = size
        self._lock = threading.Lock()

    def take(self) -> tuple[list[_T], bool, BaseException | None]:
        """Return the next items, whether there may be more, and what ended them early."""
        items: list[_T] = []
        with self._lock:
            try:
                if self._iterator is None:
                    self._iterator = iter(self._iterable)
                while len(items) < self._size:
                    items.append(next(self._iterator))
            except StopIteration:
                return items, False, None
            except BaseException as error:
                # What came before the error is handed out before the error is.
                return items, False, error
        return items, True, None

    def close(self) -> None:
        with self._lock:
            iterator: object = self._iterator
            self._iterator = None
            if isinstance(iterator, types.GeneratorType):
                iterator.close()


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
    (break, exception, cancellation) a generator is closed on its thread: by ``async with
    contextlib.aclosing(...)`` at once, else when the event loop's hook for asynchronous generators
    gets to it.

    >>> import asyncio
    >>> async def main():
    ...     return [line async for line in sync_to_async_iterator(iter("abc"), batch=2)]
    >>> asyncio.run(main())
    ['a', 'b', 'c']
    """
    if batch < 1:
        raise ValueError(f"batch must be a positive number of items, not {batch!r}")
    batches = _Batches(iterable, batch)
    take = sync_to_async(batches.take, thread_sensitive=thread_sensitive)
    close = sync_to_async(batches.close, thread_sensitive=thread_sensitive)
    more = True
    try:
        while more:
            items, more, error = await take()
            for item in items:
                yield item
            if error is not None:
                try:
                    raise error
                finally:
                    # This frame is part of the traceback.
                    del error
    finally:
        if more:
            await close()


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
    with _loop_for_steps() as step:
        iterator = aiter(async_iterable)
        try:
            while True:
                try:
                    with step():
                        item = async_to_sync(_anext)(iterator)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if isinstance(iterator, types.AsyncGeneratorType):
                with step():
                    async_to_sync(_aclose)(cast("types.AsyncGeneratorType[_T, object]", iterator))


async def _anext(iterator: AsyncIterator[_T]) -> _T:
    return await anext(iterator)


async def _aclose(generator: types.AsyncGeneratorType[_T, object]) -> None:
    await generator.aclose()


@contextmanager
def _loop_for_steps() -> Generator[Callable[[], AbstractContextManager[None]]]:
    """Yield what to enter around each step, so that all of them run on the same loop."""
    if THREAD.record.call is not None or ASYNC_SINGLE_THREAD_CONTEXT.get(None) is not None:
        yield nullcontext
        return
    single = AsyncSingleThreadContext()
    try:
        yield single.during
    finally:
        single.end()
