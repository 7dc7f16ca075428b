"""An event that any thread can set and one task waits for.

It uses the completion queue, which wakes the loop once for several items. Setting an
`asyncio.Event` with ``loop.call_soon_threadsafe(event.set)`` takes twice as long.
"""

import asyncio
import threading

from ._asyncio_internals import CompletionQueue, completion_queue_of, resume


class ThreadEvent:
    """Lets one task wait until another thread calls `set`. Create it on its event loop's thread.

    Each `wait` clears the event. An event that is set while no task waits is kept for the next
    `wait`. The event is not a counter: several `set` calls may wake the task only once. After each
    wake-up, check the condition that you wait for.

    Raises:
        RuntimeError: no event loop runs in this thread.

    >>> import asyncio, threading
    >>> async def main():
    ...     event = ThreadEvent()
    ...     threading.Thread(target=event.set).start()
    ...     await event.wait()
    ...     return "woken"
    >>> asyncio.run(main())
    'woken'
    """

    __slots__ = ("_is_on_its_way", "_is_set", "_lock", "_queue", "_waiter")

    def __init__(self) -> None:
        self._queue: CompletionQueue = completion_queue_of(asyncio.get_running_loop())
        self._lock = threading.RLock()  # reentrant, because a signal handler may set the event
        self._is_on_its_way = False
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the task now, or at its next `wait`. Any thread may call this.

        Raises:
            RuntimeError: the event loop is closed, so no task can be waiting.
        """
        try:
            with self._lock:
                is_first, self._is_on_its_way = not self._is_on_its_way, True
            if is_first and not self._queue.put(self._arrive):
                raise RuntimeError("the event loop of this ThreadEvent is closed")
        except BaseException:
            self._is_on_its_way = False
            raise

    def _arrive(self) -> None:
        """Wake the task. The completion queue calls this on the loop's thread."""
        with self._lock:
            self._is_on_its_way = False
        self._is_set = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            resume(waiter)

    async def wait(self) -> None:
        """Wait for the event, and clear it.

        Only one task may wait at a time. That task may be cancelled.

        Raises:
            RuntimeError: another task is already waiting.
        """
        if self._waiter is not None:
            raise RuntimeError("another task is already waiting for this ThreadEvent")
        if not self._is_set:
            self._waiter = self._queue.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_set = False
