"""What other threads bring to an event loop: calls that ended, coroutines to start.

The invariant: when something is in the deque, a drain is scheduled on the loop, or is running and
has not yet seen the deque empty. So a thread that finds a drain scheduled has nothing to do but
append: when a thousand calls finish together the loop is woken once, and not a thousand times
(1000 calls at once: 22 → 12 µs each).

`_drain` clears the flag *before* its first pop. A thread that appends after that schedules another
drain, at worst one too many; cleared after the last pop, an arrival appended in between would wait
until the next one comes, or for ever.

How the drain is scheduled depends on the loop. `call_soon_threadsafe` works with all of them, and
on asyncio's own it costs 9 µs: a handle with a copy of the context, a byte sent through a pair of
sockets, two attempts to receive it. So there the inbox has a doorbell of its own, an eventfd that
the loop watches (0.6 µs). The loop holds the doorbell, as the argument of its reader, and the inbox
knows it by a weak reference: it is closed with the loop. Whoever rings holds it for that moment, so
that a closed descriptor's number is never written to. The loop watches it edge-triggered: each ring
is an event, and nothing needs to be read. Reading would let go of the interpreter lock just when
another thread wants it (sync → async: 46 → 40 µs).

Only the loop's thread touches futures and tasks. Any thread may call `deliver`.

A thread keeps the inbox of the loop that it runs, for the next call. It must not keep the loop: a
reference would hold a closed loop until the thread runs another one.
"""

import asyncio
import os
import select
import sys
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

from ._threads import ThreadRecord

__all__ = ["Arrival", "Inbox", "inbox_of"]


class Arrival(Protocol):
    """What can be brought to a loop: `arrive` is called once, on the loop's thread."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    def arrive(self) -> object: ...


class _Doorbell:
    """A descriptor that wakes the loop that watches it. Raises OSError where there can be none."""

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self) -> None:
        self.descriptor = -1
        if sys.platform == "linux":
            self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    # Called at interpreter exit too, when this module's own names may be gone.
    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            close(self.descriptor)


class Inbox:
    """What arrives for one event loop. Made, and drained, on the loop's thread."""

    __slots__ = ("_arrivals", "_call_soon", "_doorbell", "_scheduled", "loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`call_soon` is a faster ``loop.call_soon_threadsafe``, if there is one."""
        self.loop = weakref.ref(loop)
        self._call_soon = call_soon
        self._doorbell: weakref.ref[_Doorbell] | None = None
        self._arrivals: deque[Arrival] = deque()
        self._scheduled = False

    def hang_doorbell(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop`, this inbox's, watch a doorbell, if it is one that can and is faster so."""
        epoll = _epoll_of(loop)
        if epoll is None:
            return
        try:
            doorbell = _Doorbell()
            # The loop keeps a copy of the context with the reader, and must not keep the caller's.
            Context().run(loop.add_reader, doorbell.descriptor, self._drain, doorbell)
        except OSError:  # no descriptor is left
            return
        epoll.modify(doorbell.descriptor, select.EPOLLIN | select.EPOLLET)
        # What has arrived by then is for nobody.
        arrivals = self._arrivals
        self._doorbell = weakref.ref(doorbell, lambda _: arrivals.clear())

    def deliver(self, arrival: Arrival) -> None:
        """Have `arrival.arrive` called on the loop's thread. Any thread may call this."""
        self._arrivals.append(arrival)
        if self._scheduled:
            return
        self._scheduled = True
        if self._doorbell is None:
            self._schedule(arrival)
        elif (doorbell := self._doorbell()) is not None:
            os.eventfd_write(doorbell.descriptor, 1)
        else:
            # The loop is closed. Nobody is left who could wait for a result.
            self._arrivals.clear()

    def _schedule(self, arrival: Arrival) -> None:
        call_soon = self._call_soon
        if call_soon is None and arrival.loop is not None:
            call_soon = arrival.loop.call_soon_threadsafe
        try:
            if call_soon is not None:
                call_soon(self._drain)
        except RuntimeError:
            self._arrivals.clear()  # closed, as above

    def _drain(self, _: _Doorbell | None = None) -> None:
        self._scheduled = False
        arrivals = self._arrivals
        # Not until none is left: what arrives meanwhile, in answer to these, waits for its turn.
        for _number in range(len(arrivals)):
            arrivals.popleft().arrive()


def _epoll_of(loop: asyncio.AbstractEventLoop) -> "select.epoll | None":
    """Return what `loop` waits in, if it is asyncio's own and waits in epoll, else None."""
    if sys.platform != "linux" or type(loop) is not asyncio.SelectorEventLoop:
        return None
    epoll = getattr(getattr(loop, "_selector", None), "_selector", None)
    return epoll if isinstance(epoll, select.epoll) else None


def inbox_of(loop: asyncio.AbstractEventLoop, thread: ThreadRecord) -> Inbox:
    """Return the inbox of `loop`, which runs in `thread`, the calling one."""
    inbox = thread.inbox
    if inbox is None or inbox.loop() is not loop:
        inbox = thread.inboxes.get(loop)
        if inbox is None:
            inbox = thread.inboxes[loop] = Inbox(loop)
            inbox.hang_doorbell(loop)
        thread.inbox = inbox
    return inbox
