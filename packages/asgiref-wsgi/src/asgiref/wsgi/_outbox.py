"""The way out: events that the application's thread leaves for the request's task.

Theory of operation. `send` is awaited only in the request's own task. (Awaiting it through the
bridge, from the thread, was the design of old, and it lost requests: a server starts the next
request of a keep-alive connection inside `send`, so it started in the bridge's context, with the
bridge's state.) So the thread appends events to a deque, and the task pops and sends them.

Waking an event loop from a thread is the dearest step: a system call, and a fight for the GIL.
Hence the thread signals only when the task sleeps and nobody has woken it yet, and only in `flush`.
Events that nobody flushes leave with the next flush, or when the application has returned: a small
response costs no wake-up of its own.

Only the application's thread appends, and only the event loop's pops; both are atomic, and need no
lock. The lock guards the two ways to sleep: `_asleep` (the task's), and the waiting for room (the
thread's). `closed`, `ended` and `_in_flight` may be
read a moment late; what is appended after `close` is never popped.

Backpressure counts bytes of bodies: those appended whose `send` has not returned. `wait_for_room`
blocks from `limit` bytes on until half of them are gone; less of a gap and the two threads would
take turns at every chunk. So that the count needs no lock, there are two, each written by one
thread: what was appended, and what was sent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

from asgiref.sync import ThreadEvent

from ._response import Event

#: A thread that waits for its client lends its place to others after so many seconds. Lending costs
#: more than most waits take.
PATIENCE = 0.002


class ClientDisconnected(ConnectionError):
    """The client has left, or the request was cancelled; an OSError to the application."""


class Outbox:
    """The events of one response on their way to `send`; a Sink to the application's thread.

    `waiting` gives the context in which the thread blocks (see `_workers`).
    """

    __slots__ = (
        "_appended",
        "_asleep",
        "_events",
        "_limit",
        "_lock",
        "_room",
        "_sent",
        "_signal",
        "_waiting",
        "closed",
        "ended",
    )

    def __init__(
        self,
        limit: int,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._signal = ThreadEvent()
        self._limit = limit
        self._waiting = waiting
        self._lock = threading.Lock()
        self._events: deque[tuple[Event, int]] = deque()
        self._appended = 0
        self._sent = 0
        self._asleep = False  # the task sleeps and nobody has woken it
        self.closed = False
        """Whether nobody will send what is appended."""
        self.ended = False
        """Whether the event that ends the response was appended."""
        self._room: threading.Condition | None = None  # made by the first thread that must wait

    # The application's thread

    def append(self, event: Event, size: int) -> None:
        """Add an event; raises ClientDisconnected once nobody will send it."""
        if self.closed:
            raise ClientDisconnected("the client has disconnected")
        self._appended += size
        if event["type"] != "http.response.start" and not event.get("more_body"):
            self.ended = True
        self._events.append((event, size))

    def flush(self) -> None:
        """Wake the request's task if it sleeps."""
        with self._lock:
            if not self._asleep or not self._events:
                return
            self._asleep = False
        try:
            self._signal.set()
        except RuntimeError as error:  # the event loop is closed
            self.close()
            raise ClientDisconnected("the event loop of the request is closed") from error

    def wait_for_room(self) -> None:
        """Block while too much is in flight; raises ClientDisconnected once nobody will send."""
        if self._in_flight >= self._limit:
            self._wait(self._has_room)
        elif self.closed:
            raise ClientDisconnected("the client has disconnected")

    def _wait(self, satisfied: Callable[[], bool]) -> None:
        self.flush()
        with self._lock:
            room = self._room = self._room or threading.Condition(self._lock)
            if not room.wait_for(satisfied, PATIENCE):
                with self._waiting():
                    room.wait_for(satisfied)
        if self.closed:
            raise ClientDisconnected("the client has disconnected")

    def wait_until_sent(self) -> None:
        """Block while anything is in flight; raises ClientDisconnected once nobody will send."""
        self._wait(self._is_through)

    def send(self, event: Event) -> None:
        """Append, flush and wait in one; for applications that drive the response themselves."""
        self.append(event, len(event.get("body", b"")))
        self.flush()
        self.wait_for_room()

    def _has_room(self) -> bool:
        return self._in_flight <= self._limit // 2 or self.closed

    def _is_through(self) -> bool:
        return not self._in_flight or self.closed

    @property
    def _in_flight(self) -> int:
        return self._appended - self._sent

    # The event loop's thread

    def pop(self) -> tuple[Event, int] | None:
        """The next event and its size; report the size to `sent` when it is sent."""
        try:
            return None if self.closed else self._events.popleft()
        except IndexError:
            return None

    def sent(self, size: int) -> None:
        """Make room for what was sent."""
        with self._lock:
            self._sent += size
            if self._room is not None and self._in_flight <= self._limit // 2:
                self._room.notify_all()

    async def sleep(self) -> None:
        """Wait for a flush, or for `wake`."""
        with self._lock:
            if self._events:
                return
            self._asleep = True
        try:
            await self._signal.wait()
        finally:
            self._asleep = False

    def wake(self) -> None:
        """Wake the request's task, if it sleeps."""
        self._signal.set()

    def close(self) -> None:
        """Drop what waits, and fail whoever appends more. Any thread may call it."""
        with self._lock:
            self.closed = True
            if self._room is not None:
                self._room.notify_all()
        self._events.clear()
