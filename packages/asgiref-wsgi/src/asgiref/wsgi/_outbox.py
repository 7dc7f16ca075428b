"""The way out: events that the application's thread leaves for the request's task.

Theory of operation. `send` is awaited only in the request's own task. (Awaiting it through the
bridge, from the thread, was the design of old, and it lost requests: a server starts the next
request of a keep-alive connection inside `send`, so it started in the bridge's context, with the
bridge's state.) So the thread appends events to a deque, and the task pops and sends them.

Waking an event loop from a thread is the dearest step: a system call, and a fight for the GIL.
Hence the thread wakes the loop only when the task sleeps and nobody has woken it yet, and only in
`flush`. Events that nobody flushes leave with the next flush, or when the application has
returned: a small response costs no wake-up of its own.

Invariant: every attribute below is touched under the lock, except `_waiter`, which belongs to the
event loop's thread, and for reads of `_closed`, `ended` and `_in_flight` that may be a moment late.

Backpressure counts bytes of bodies: those appended whose `send` has not returned. `wait_for_room`
blocks from `limit` bytes on until half of them are gone; less of a gap and the two threads would
take turns at every chunk.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from ._response import Event


class ClientDisconnected(ConnectionError):
    """The client has left, or the request was cancelled; an OSError to the application."""


class Outbox:
    """The events of one response on their way to `send`; a Sink to the application's thread.

    `waiting` gives the context in which the thread blocks (see `_workers`).
    """

    __slots__ = (
        "_asleep",
        "_closed",
        "_events",
        "_in_flight",
        "_limit",
        "_lock",
        "_loop",
        "_room",
        "_waiter",
        "_waiting",
        "ended",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting = waiting
        self._lock = threading.Lock()
        self._events: deque[tuple[Event, int]] = deque()
        self._in_flight = 0
        self._asleep = False  # the task sleeps and nobody has woken it
        self._closed = False
        self.ended = False
        """Whether the event that ends the response was appended."""
        self._room: threading.Condition | None = None  # made by the first thread that must wait
        self._waiter: asyncio.Future[None] | None = None

    # The application's thread

    def append(self, event: Event, size: int) -> None:
        """Add an event; raises ClientDisconnected once nobody will send it."""
        with self._lock:
            if self._closed:
                raise ClientDisconnected("the client has disconnected")
            self._events.append((event, size))
            if event["type"] == "http.response.body" and not event.get("more_body"):
                self.ended = True
            self._in_flight += size

    def flush(self) -> None:
        """Wake the request's task if it sleeps."""
        with self._lock:
            if not self._asleep or not self._events:
                return
            self._asleep = False
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError as error:  # the event loop is closed
            self.close()
            raise ClientDisconnected("the event loop of the request is closed") from error

    def wait_for_room(self) -> None:
        """Block while too much is in flight; raises ClientDisconnected once nobody will send."""
        if self._in_flight >= self._limit:
            self.flush()
            with self._waiting(), self._lock:
                room = self._room = self._room or threading.Condition(self._lock)
                while self._in_flight > self._limit // 2:
                    room.wait()
        if self._closed:
            raise ClientDisconnected("the client has disconnected")

    def send(self, event: Event) -> None:
        """Append, flush and wait in one; for applications that drive the response themselves."""
        self.append(event, len(event.get("body", b"")))
        self.flush()
        self.wait_for_room()

    @property
    def closed(self) -> bool:
        """Whether nobody will send what is appended."""
        return self._closed

    # The event loop's thread

    def pop(self) -> tuple[Event, int] | None:
        """The next event and its size; report the size to `sent` when it is sent."""
        with self._lock:
            return self._events.popleft() if self._events else None

    def sent(self, size: int) -> None:
        """Make room for what was sent."""
        if size:
            with self._lock:
                if not self._closed:
                    self._in_flight -= size
                    self._notify_of_room()

    async def sleep(self) -> None:
        """Wait for a flush, or for `wake`."""
        with self._lock:
            if self._events:
                return
            self._asleep = True
            self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            with self._lock:
                self._asleep = False

    def wake(self, _: object = None) -> None:
        """Wake the request's task; a done-callback of the application's task."""
        self._wake()

    def close(self) -> None:
        """Drop what waits, and fail whoever appends more. Any thread may call it."""
        with self._lock:
            self._closed = True
            self._events.clear()
            self._in_flight = 0
            self._notify_of_room()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _notify_of_room(self) -> None:
        if self._room is not None and self._in_flight <= self._limit // 2:
            self._room.notify_all()
