"""Finished calls on their way back to an event loop.

The invariant: when a call is in the deque, a drain is scheduled on the loop, or is running and has
not yet seen the deque empty. So a worker thread that finds a drain scheduled has nothing to do but
append: when a thousand calls finish together the loop is woken once, and not a thousand times
(1000 calls at once: 22 → 12 µs each).

`_drain` clears the flag *before* its first pop. A thread that appends after that schedules another
drain, at worst one too many; cleared after the last pop, a call appended in between would wait
until the next one finishes, or for ever.

Only the loop's thread touches futures. Any thread may call `deliver`.

A thread keeps the object of the loop that it runs, for the next call. It must not keep the loop:
a reference would hold a closed loop until the thread runs another one.
"""

import asyncio
import weakref
from collections import deque
from typing import Protocol

from ._threads import ThreadRecord

__all__ = ["Completions", "Settleable", "completions_of"]


class Settleable(Protocol):
    """What can be handed to a loop: `settle` is called once, on the loop's thread."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def settle(self) -> None: ...


class Completions:
    """The finished calls of one event loop. Made, and drained, on the loop's thread."""

    __slots__ = ("_finished", "_loop", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._finished: deque[Settleable] = deque()
        self._scheduled = False

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop() is loop

    def deliver(self, call: Settleable) -> None:
        """Have `call.settle` called on the loop's thread. Any thread may call this."""
        self._finished.append(call)
        if not self._scheduled:
            self._scheduled = True
            try:
                call.loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                # The loop is closed. Nobody is left who could wait for a result.
                self._finished.clear()

    def _drain(self) -> None:
        self._scheduled = False
        finished = self._finished
        while finished:
            finished.popleft().settle()


def completions_of(loop: asyncio.AbstractEventLoop, thread: ThreadRecord) -> Completions:
    """Return the object for `loop`, which runs in `thread`, the calling one."""
    completions = thread.completions
    if completions is None or not completions.belongs_to(loop):
        completions = thread.completions = Completions(loop)
    return completions
