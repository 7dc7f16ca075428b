"""A signal from any thread to a task.

What an `asyncio.Event` is between tasks. Its `set` may be called by any thread, and goes the way
that results of calls go: through the inbox of the loop, which wakes the loop once for all that
arrives together, and by a doorbell where there is one; the task is stepped in the turn that learns
of it. ``loop.call_soon_threadsafe(event.set)`` does the same for 9 µs more, and a turn later.

The state belongs to the loop's thread, and nothing is locked. `set` only looks whether a signal is
on its way already; two threads may both find none and send two, so a wait may end once more than
signals were thought of. What is waited for is to be looked for after each.
"""

import asyncio

from ._awaited import Awaited
from ._inbox import inbox_of
from ._threads import THREAD

__all__ = ["ThreadSignal"]


class ThreadSignal(Awaited):
    """Lets one task wait until another thread calls `set`. Made on the thread of its event loop.

    A signal that comes while nobody waits is kept for the next `wait`. Signals do not count,
    several may be one: look what there is after each.

    >>> import asyncio, threading
    >>> async def main():
    ...     signal = ThreadSignal()
    ...     threading.Thread(target=signal.set).start()
    ...     await signal.wait()
    ...     return "woken"
    >>> asyncio.run(main())
    'woken'
    """

    __slots__ = ("_inbox", "_is_set", "_on_its_way")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        self._inbox = inbox_of(loop, THREAD.record)
        self._is_set = False
        self._on_its_way = False

    def set(self) -> None:
        """Let the task go on, now or when it waits next. Any thread may call this.

        RuntimeError: the event loop is closed, so nobody can be waiting.
        """
        if self.loop.is_closed():
            raise RuntimeError("the event loop of this ThreadSignal is closed")
        if not self._on_its_way:
            self._on_its_way = True
            self._inbox.deliver(self)

    async def wait(self) -> None:
        """Wait for the signal, and use it up. One task at a time; it may be cancelled."""
        if self._step is not None:
            raise RuntimeError("another task waits for this ThreadSignal already")
        await self
        self._is_set = False

    # On the loop's thread

    def done(self) -> bool:
        return self._is_set

    def arrive(self) -> None:
        self._on_its_way = False
        self._is_set = True
        self.wake()
