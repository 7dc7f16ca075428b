"""How the thread of a loop waits when only other threads can give it work.

asyncio waits in the selector. To wake it another thread writes a byte through a pair of sockets,
which takes four system calls, an exception at the end of the bytes and a turn of the loop: more
than all the rest of a short call (at top level 85 → 50 µs, 54 → 51 of them in the interpreter and
31 → 15 in the system). But a loop made for synchronous code mostly has no timer and no other file
descriptor, and then its thread can as well wait in a queue.

It does so inside a callback of the loop, so for everybody the loop is running. Until something else
can wake the loop (a timer, a file descriptor) the callback does what a turn of the loop would:
it runs what is ready, in order. Calls to begin, and completions, come through the queue.
`call_soon_threadsafe` stays asyncio's own; only what it does last, waking the selector, is replaced
on the loop object, and uses the queue while the thread waits there.

No wake-up is lost, because each side leaves its word first and then looks for the other's:

* the thread sets `_waiting`, then looks at the loop's ready queue; who schedules a callback appends
  it there, then looks at `_waiting`;
* the thread clears `_waiting`, then looks at the arrivals once more; who brings something puts it
  there, then looks at `_waiting`.

In debug mode asyncio complains of callbacks that last, so nothing of this happens there, nor with
any loop but asyncio's own selector loop.
"""

import asyncio
import queue
from collections.abc import Callable
from contextvars import Context
from typing import Any

__all__ = ["Parking", "no_other_timer"]

#: The longest wait, in seconds, after which the timers of the loop are looked at.
_LONGEST_WAIT = 60.0
#: So many turns with other work, one after the other, and the callback is not scheduled again.
_PATIENCE = 3
#: More timers than these, though cancelled, are left to asyncio, which clears them away.
_FEW_TIMERS = 100


class Parking:
    """The place where the thread of one loop waits. Made on that thread, while the loop runs."""

    __slots__ = (
        "_armed",
        "_arrivals",
        "_closed",
        "_context",
        "_loop",
        "_own_timer",
        "_ready",
        "_registered",
        "_turns",
        "_waiting",
        "_wake_selector",
        "handle",
    )

    def __init__(self, loop: Any, own_timer: asyncio.TimerHandle) -> None:
        """Raises ValueError if `loop` is not one that can be waited for in this way."""
        self._loop: Any = loop
        if type(loop) is not asyncio.SelectorEventLoop or loop.get_debug():
            raise ValueError(f"{loop!r} waits by itself")
        try:
            self._ready, _ = self._loop._ready, self._loop._scheduled
            self._registered = self._loop._selector._fd_to_key
            self._wake_selector = self._loop._write_to_self
        except AttributeError:
            raise ValueError(f"{loop!r} is not made as expected") from None
        self._own_timer = own_timer
        self._arrivals: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._waiting = self._armed = self._closed = False
        self._turns = _PATIENCE
        self._context = Context()
        #: The scheduled callback, if there is one.
        self.handle: asyncio.Handle | None = None
        self._loop._write_to_self = self._wake

    # Any thread.

    def call(self, function: Callable[[], object]) -> None:
        """Have `function` called on the loop's thread, in whatever context.

        Raises RuntimeError if the loop was closed; `function` may have been called nevertheless.
        """
        self._arrivals.put(function)
        if not self._waiting:
            self._loop.call_soon_threadsafe(self._take_arrivals)

    def _wake(self) -> None:
        if self._waiting:
            self._arrivals.put(None)
        else:
            self._wake_selector()

    # The loop's thread.

    def use_timer(self, own_timer: asyncio.TimerHandle) -> None:
        """Tell that the owner's timer, which may be late, is another one now."""
        self._own_timer = own_timer

    def arm(self) -> None:
        """Wait here as soon as the loop has nothing else to do."""
        self._turns = _PATIENCE
        self._arm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self.handle = self._loop.call_soon(self._wait, context=self._context)

    def close(self) -> None:
        """Leave the waiting to asyncio for good: the loop is being ended, and runs for that."""
        self._closed = True
        self._loop.__dict__.pop("_write_to_self", None)

    def _wait(self) -> None:
        self.handle = None
        if self._ready:
            # A turn of asyncio has counted these, and expects to find them.
            self._armed = False
            if self._turns and not self._closed:
                self._turns -= 1
                self._arm()
            return
        while self._only_threads_can_wake():
            if self._ready:
                self._run_ready()
            elif not self._wait_for_arrival():
                break
        self._armed = False

    def _wait_for_arrival(self) -> bool:
        """Wait for what comes by the queue, and do it. False after the longest wait."""
        arrival: Callable[[], object] | None = None
        in_time = True
        self._waiting = True
        if not self._ready:
            try:
                arrival = self._arrivals.get(timeout=_LONGEST_WAIT)
            except queue.Empty:
                in_time = False
        self._waiting = False
        if arrival is not None:
            arrival()
        self._take_arrivals()
        return in_time

    def _run_ready(self) -> None:
        """Do what a turn of asyncio would, but for the timers and the selector."""
        ready = self._ready
        number = len(ready)
        # A callback that makes the loop run inside itself has run some of the others.
        while number and ready:
            number -= 1
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _only_threads_can_wake(self) -> bool:
        loop = self._loop
        if self._closed or loop._stopping or loop._debug or len(self._registered) != 1:
            return False
        scheduled = loop._scheduled
        return len(scheduled) <= _FEW_TIMERS and no_other_timer(scheduled, self._own_timer)

    def _take_arrivals(self) -> None:
        while not self._arrivals.empty():
            arrival = self._arrivals.get_nowait()
            if arrival is not None:
                arrival()


def no_other_timer(scheduled: list[Any], own: asyncio.TimerHandle) -> bool:
    """Whether `scheduled`, a loop's timers, has none but `own` and cancelled ones."""
    if len(scheduled) == 1 and scheduled[0] is own:
        return True
    return all(timer is own or timer._cancelled for timer in scheduled)
