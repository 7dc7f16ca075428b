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
sockets, two attempts to receive it. So there the inbox puts a handle that it always uses into the
loop's ready queue, as `call_soon_threadsafe` would, and wakes the loop by a doorbell of its own, an
eventfd that the loop watches (0.6 µs). It is watched edge-triggered: each ring is an event, nothing
needs to be read. Reading would let go of the interpreter lock just when another thread wants it
(sync → async: 46 → 40 µs). That an event can be lost, when an interrupt comes between epoll and the
loop, does no harm: a loop that runs on looks at its ready queue first.

The loop holds the doorbell, as the argument of its reader, and the inbox knows it by a weak
reference: it is closed with the loop. Whoever rings holds it for that moment, so that a closed
descriptor's number is never written to.

Only the loop's thread touches futures and tasks. Any thread may call `deliver`. What arrives brings
its own context, so the drain enters none: a loop that is made to run inside one of its callbacks
(nest_asyncio) drains inside a drain.

There is one inbox for each loop of the process; what else the bridge has for a loop hangs on it. A
thread keeps that of the loop it runs, for the next call. It must not keep the loop: a reference
would hold a closed loop until the thread runs another one.
"""

import asyncio
import os
import select
import sys
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from ._threads import PROCESS, ThreadRecord

if TYPE_CHECKING:
    from ._parallel import ParallelCalls

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


class _DrainHandle(asyncio.Handle):
    """What stands in the ready queue of a loop for the drain of its inbox."""

    __slots__ = ("_drain",)

    def __init__(self, drain: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(drain, (), loop, Context())
        self._drain = drain
        # The inbox keeps the handle, and must not keep the loop.
        self._loop: Any = None

    def __repr__(self) -> str:
        return "<drain of an inbox of asgiref.sync>"

    def _run(self) -> None:
        self._drain()


class Inbox:
    """What arrives for one event loop. Made, and drained, on the loop's thread."""

    __slots__ = (
        "_arrivals",
        "_call_soon",
        "_doorbell",
        "_handle",
        "_ready",
        "_scheduled",
        "loop",
        "parallel",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`call_soon` is a faster ``loop.call_soon_threadsafe``, if there is one."""
        self.loop: weakref.ref[asyncio.AbstractEventLoop] = weakref.ref(loop)
        self._call_soon = call_soon
        self._doorbell: weakref.ref[_Doorbell] | None = None
        self._handle: asyncio.Handle | None = None
        self._ready: deque[Any] | None = None
        self._arrivals: deque[Arrival] = deque()
        self._scheduled = False
        #: Where calls with ``thread_sensitive=False`` from this loop run; None until the first one.
        self.parallel: ParallelCalls | None = None

    def hang_doorbell(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop`, this inbox's, watch a doorbell, if it is one that can and is faster so."""
        epoll, ready = _internals_of(loop)
        if epoll is None or ready is None:
            return
        try:
            doorbell = _Doorbell()
            # The loop keeps a copy of the context with the reader, and must not keep the caller's.
            Context().run(loop.add_reader, doorbell.descriptor, _nothing, doorbell)
        except OSError:  # no descriptor is left
            return
        epoll.modify(doorbell.descriptor, select.EPOLLIN | select.EPOLLET)
        self._handle = _DrainHandle(self._drain, loop)
        self._ready = ready
        # What has arrived by then is for nobody.
        self._doorbell = weakref.ref(doorbell, lambda _: self._forget())

    def deliver(self, arrival: Arrival) -> None:
        """Have `arrival.arrive` called on the loop's thread. Any thread may call this."""
        self._arrivals.append(arrival)
        if not self._scheduled:
            self._schedule(arrival)

    def _schedule(self, arrival: Arrival) -> None:
        self._scheduled = True
        if self._ready is None or self._doorbell is None:
            self._schedule_by_loop(arrival)
        elif (doorbell := self._doorbell()) is not None:
            self._ready.append(self._handle)
            os.eventfd_write(doorbell.descriptor, 1)
        else:
            self._forget()

    def _schedule_by_loop(self, arrival: Arrival) -> None:
        call_soon = self._call_soon
        if call_soon is None and arrival.loop is not None:
            call_soon = arrival.loop.call_soon_threadsafe
        try:
            if call_soon is not None:
                call_soon(self._drain)
        except RuntimeError:
            self._forget()

    def _forget(self) -> None:
        """The loop is closed. Nobody is left who could wait for a result."""
        self._arrivals.clear()
        self._scheduled = False

    def _drain(self) -> None:
        self._scheduled = False
        arrivals = self._arrivals
        # Not until none is left: what arrives meanwhile, in answer to these, waits for its turn.
        number = len(arrivals)
        while number and arrivals:
            number -= 1
            try:
                arrivals.popleft().arrive()
            except Exception as error:
                self._report(error)
            except BaseException:
                # A task raised KeyboardInterrupt or SystemExit, which go through the loop. The
                # others must not suffer from it: asyncio runs the loop once more to end them.
                if arrivals and not self._scheduled:
                    self._schedule(arrivals[0])
                raise

    def _report(self, error: Exception) -> None:
        loop = self.loop()
        if loop is not None:
            message = "asgiref.sync could not go on with a task"
            loop.call_exception_handler({"message": message, "exception": error})


def _nothing(doorbell: _Doorbell) -> None:
    """The loop is awake, and that was all."""


def _internals_of(
    loop: asyncio.AbstractEventLoop,
) -> "tuple[select.epoll | None, deque[Any] | None]":
    """Return what `loop` waits in and its ready queue, if it is asyncio's own on epoll."""
    if sys.platform != "linux" or type(loop) is not asyncio.SelectorEventLoop:
        return None, None
    epoll = getattr(getattr(loop, "_selector", None), "_selector", None)
    ready: deque[Any] | None = getattr(loop, "_ready", None)
    if not isinstance(epoll, select.epoll) or not hasattr(os, "eventfd"):
        return None, None
    return epoll, ready


def inbox_of(loop: asyncio.AbstractEventLoop, thread: ThreadRecord) -> Inbox:
    """Return the inbox of `loop`, which runs in `thread`, the calling one."""
    inbox = thread.inbox
    if inbox is None or inbox.loop() is not loop:
        inbox = thread.inbox = PROCESS.inboxes.get(loop) or _make_inbox(loop)
    return inbox


def _make_inbox(loop: asyncio.AbstractEventLoop) -> Inbox:
    for other in list(PROCESS.inboxes):
        # What it may hold refers to its loop, which would keep both.
        if other.is_closed():
            del PROCESS.inboxes[other]
    inbox = PROCESS.inboxes[loop] = Inbox(loop)
    inbox.hang_doorbell(loop)
    return inbox
