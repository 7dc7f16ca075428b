"""The way out: events that the application's thread leaves for the request's task.

`send` is awaited only in the request's own task. (A server starts the next request of a connection
inside `send`; awaited through the bridge, it would start in the bridge's context.) The thread
appends events to a deque, the task pops and sends them. Events that are not flushed leave with the
next flush, or when the application has returned: a small response costs no wake-up of its own.

Backpressure counts what the events occupy, from `append` until `send` has returned. There are two
counts, each written by one thread, so that they need no lock. `closed` and `ended` may be read a
moment late; an event that is appended after `close` is never popped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from typing import Any

from ._errors import ClientDisconnected
from ._two_sided_wait import TwoSidedWait
from ._types import Event

#: What an event occupies besides its body: a dict of three keys, a tuple, the header of the bytes,
#: and their places in the deque and for the garbage collector. 312 to 370 bytes on CPython 3.11 to
#: 3.15, by `sys.getsizeof`.
EVENT_OVERHEAD = 400


class Outbox:
    """The events of one response on their way to `send`; a Sink to the application's thread.

    `lend` makes the context in which the thread waits for long (see `_workers`).
    """

    __slots__ = (
        "_appended",
        "_events",
        "_limit",
        "_sent",
        "_unreported",
        "_wait",
        "closed",
        "ended",
        "is_watched",
    )

    def __init__(self, limit: int, lend: Callable[[], AbstractContextManager[None]]) -> None:
        self._wait = TwoSidedWait(lend)
        self._limit = limit
        self._events: deque[tuple[Event, int]] = deque()
        self._appended = 0
        self._sent = 0
        self._unreported = 0  # what was sent beyond that
        self.closed = False
        """Whether appended events are dropped."""
        self.ended = False
        """Whether the event that ends the response was appended."""
        self.is_watched = False
        """Whether the application wants to be stopped when the client leaves."""

    # The application's thread

    def append(self, event: Event, size: int) -> None:
        """Add an event with `size` bytes of body; raises ClientDisconnected once closed."""
        if self.closed:
            raise ClientDisconnected("the client has disconnected")
        if event.get("more_body"):
            size += EVENT_OVERHEAD
        else:  # the start or the end, of which there is one each
            self.ended = event["type"] != "http.response.start"
        self._appended += size
        self._events.append((event, size))

    def flush(self) -> None:
        """Wake the request's task if it sleeps and there is something to send."""
        if not self._events:
            return
        try:
            self._wait.wake_task()
        except RuntimeError as error:  # the event loop is closed
            self.close()
            raise ClientDisconnected("the event loop of the request is closed") from error

    def watch(self) -> None:
        """Have the request's task watch for a client that leaves."""
        if not self.is_watched:
            self.is_watched = True
            with suppress(RuntimeError):  # the event loop is closed, which the next flush finds
                self._wait.wake_task()

    def wait_for_room(self) -> None:
        """Block while too much is in flight; raises ClientDisconnected once closed."""
        if self._appended - self._sent >= self._limit:
            self._wait_until(self._has_room)
        elif self.closed:
            raise ClientDisconnected("the client has disconnected")

    def wait_until_sent(self) -> None:
        """Block while anything is in flight; raises ClientDisconnected once closed."""
        self._wait_until(self._is_through)

    def _wait_until(self, satisfied: Callable[[], bool]) -> None:
        self.flush()
        self._wait.wait_in_thread(satisfied)
        if self.closed:
            raise ClientDisconnected("the client has disconnected")

    def send(self, event: Event) -> None:
        """Append, flush and wait in one; for applications that drive the response themselves."""
        self.append(event, len(event.get("body", b"")))
        self.flush()
        self.wait_for_room()

    def _has_room(self) -> bool:
        # Half of the limit: with less of a gap the two threads would take turns at every chunk.
        return self._appended - self._sent <= self._limit // 2 or self.closed

    def _is_through(self) -> bool:
        return self._appended == self._sent or self.closed

    # The event loop's thread

    def pop(self) -> tuple[Event, int] | None:
        """The next event and what it occupies; report that to `sent` when it is sent."""
        if not self._events or self.closed:
            return None
        try:
            return self._events.popleft()
        except IndexError:  # another thread has called `close` just now
            return None

    def sent(self, cost: int) -> None:
        """Make room for what was sent."""
        self._unreported += cost
        # Taking the lock is a large part of what a small chunk costs. So several are counted at
        # once, unless they are large, or the thread may be waiting for the last one.
        if self._unreported < self._limit // 4 and self._events:
            return
        wait = self._wait
        with wait.lock:
            self._sent += self._unreported
            self._unreported = 0
            if self._has_room():
                wait.notify_threads()

    def sleep(self) -> Coroutine[Any, Any, None]:
        """Wait for a flush, or for `wake`."""
        return self._wait.wait_in_task(self._has_events)

    def _has_events(self) -> bool:
        return bool(self._events) and not self.closed

    def wake(self) -> None:
        """Wake the request's task, or keep it from sleeping next. Any thread may call it."""
        self._wait.rouse_task()

    def close(self) -> None:
        """Drop the events that wait, and refuse further ones. Any thread may call it."""
        self.closed = True
        self._events.clear()
        self._wait.wake_thread()
