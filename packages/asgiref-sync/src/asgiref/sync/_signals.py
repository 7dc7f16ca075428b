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


class ThreadSignal:
    """Lets one task wait until another thread calls `set`. Made on the thread of its event loop.

    A signal that comes while nobody waits is kept for the next `wait`. Signals do not count,
    several may be one: look what there is after each.

    Raises:
        RuntimeError: no event loop runs in this thread.

    >>> import asyncio, threading
    >>> async def main():
    ...     signal = ThreadSignal()
    ...     threading.Thread(target=signal.set).start()
    ...     await signal.wait()
    ...     return "woken"
    >>> asyncio.run(main())
    'woken'
    """

    __slots__ = ("_flag", "_inbox")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._flag = _Flag(loop)
        self._inbox = inbox_of(loop, THREAD.record)

    def set(self) -> None:
        """Let the task go on, now or when it waits next. Any thread may call this.

        Raises:
            RuntimeError: the event loop is closed, so nobody can be waiting.
        """
        flag = self._flag
        if flag.loop.is_closed():
            raise RuntimeError("the event loop of this ThreadSignal is closed")
        if not flag.on_its_way:
            flag.on_its_way = True
            self._inbox.deliver(flag)

    async def wait(self) -> None:
        """Wait for the signal, and use it up. One task at a time; it may be cancelled.

        Raises:
            RuntimeError: another task waits already.
        """
        flag = self._flag
        if flag.is_awaited:
            raise RuntimeError("another task waits for this ThreadSignal already")
        await flag
        flag.is_set = False


class _Flag(Awaited):
    """What the task awaits and the inbox brings."""

    __slots__ = ("is_set", "on_its_way")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.is_set = False
        self.on_its_way = False

    @property
    def is_awaited(self) -> bool:
        return self._step is not None

    def done(self) -> bool:
        return self.is_set

    def arrive(self) -> None:
        self.on_its_way = False
        self.is_set = True
        self.wake()
