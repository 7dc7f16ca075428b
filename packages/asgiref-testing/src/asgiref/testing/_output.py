"""The queue of events that the application has sent, which a test can wait on.

A test waits for the next output or for the application's end, and sometimes only checks that
neither comes. The queue therefore lets a test wait without taking an event. Each waiter registers a
future; every event, and the application's end, completes all the futures, and the waiters check
again. ``Queue.get`` would not notice the end (asgiref waits until the timeout). The queue is used
only on the event loop's thread.
"""

# ruff: noqa: ASYNC109 - the timeout of the public methods

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

Output: TypeAlias = dict[str, Any]


class OutputQueue(asyncio.Queue[Output]):
    """An unbounded ``asyncio.Queue`` whose changes can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self._watchers: dict[asyncio.Future[bool], None] = {}  # in the order of their calls
        self._readers: list[object] = []

    def _put(self, item: Output) -> None:
        super()._put(item)
        self.wake()

    def wake(self, _: object = None) -> None:
        """Let every waiter check again. Also used as a done-callback."""
        for watcher in self._watchers:
            _finish(watcher, True)

    async def take(self, application: asyncio.Future[Any], timeout: float | None) -> Output | None:
        """Wait up to ``timeout`` seconds for the next output. Earlier calls take precedence.

        Returns None if ``application`` ends or the timeout expires.
        """
        turn = object()
        self._readers.append(turn)

        def is_settled() -> bool:
            return self._readers[0] is turn and (not self.empty() or application.done())

        try:
            if await self._until(is_settled, timeout) and not self.empty():
                return self.get_nowait()
            return None
        finally:
            self._readers.remove(turn)
            if self._readers:
                self.wake()  # it is the next reader's turn

    async def until_output_or_end(
        self, application: asyncio.Future[Any], timeout: float | None
    ) -> bool:
        """Wait up to ``timeout`` seconds for output or for the end of ``application``.

        Returns whether either happened. A ready application runs once even if the timeout is 0.
        """
        return await self._until(lambda: not self.empty() or application.done(), timeout)

    async def until_end(self, application: asyncio.Future[Any], timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds for ``application``; return whether it is done."""
        return await self._until(application.done, timeout)

    async def _until(self, is_settled: Callable[[], bool], timeout: float | None) -> bool:
        if is_settled():
            return True
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while await self._changed_by(deadline):
            if is_settled():
                return True
        return is_settled()

    async def _changed_by(self, deadline: float | None) -> bool:
        """Wait for the next change; return False if it does not happen in time.

        A timer ends the wait with a result. The traceback of an exception, such as that of
        ``asyncio.timeout``, would keep the caller's frames, and with them the communicator, alive
        until the next garbage collection; ``asyncio.wait`` would be slower.
        """
        loop = asyncio.get_running_loop()
        watcher: asyncio.Future[bool] = loop.create_future()
        self._watchers[watcher] = None
        timer = None if deadline is None else loop.call_at(deadline, _finish, watcher, False)
        try:
            return await watcher
        finally:
            del self._watchers[watcher]
            if timer is not None:
                timer.cancel()


def _finish(watcher: asyncio.Future[bool], changed: bool) -> None:
    if not watcher.done():
        watcher.set_result(changed)
