"""What the application has sent, in order, and when something about that changes.

A test waits for one of two things, the next output or the application's end, and sometimes only
wants to know that neither came. So the queue can be waited on without taking from it: whoever waits
leaves a future, every put and the application's end complete all of them, and the waiters look
again. Waiting in ``Queue.get`` instead would not notice the end (asgiref sits out the time-out),
and a message taken only to be looked at could not be put back at its place.

Used only on the event loop's thread.
"""

# ruff: noqa: ASYNC109 - the time-out that the public methods were called with

import asyncio
from typing import Any, TypeAlias

Output: TypeAlias = dict[str, Any]


class OutputQueue(asyncio.Queue[Output]):
    """An ``asyncio.Queue`` without a bound whose changes can be watched."""

    def __init__(self) -> None:
        super().__init__()
        self._watchers: set[asyncio.Future[None]] = set()

    def _put(self, item: Output) -> None:
        super()._put(item)
        self.wake()

    def wake(self, _: object = None) -> None:
        """Let every waiter look again. Also fit to be a done-callback."""
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def until_output_or_end(
        self, application: asyncio.Future[None], timeout: float | None
    ) -> bool:
        """Wait up to ``timeout`` seconds until there is output or ``application`` is done.

        False if neither came. An application about to run gets its turn even within 0 seconds.
        No exception is used to end the wait: its traceback would keep the caller's frames, and with
        them the communicator, alive until the next garbage collection.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while self.empty() and not application.done():
            watcher = loop.create_future()
            self._watchers.add(watcher)
            try:
                remaining = None if deadline is None else max(deadline - loop.time(), 0)
                await asyncio.wait({watcher}, timeout=remaining)
            finally:
                self._watchers.discard(watcher)
            if not watcher.done():
                return not self.empty() or application.done()
        return True
