"""Passes the response's events from the application's thread to the request's task.

Only the request's own task awaits `send`. (A server may start a connection's next request inside
`send`. If `send` were called through the bridge, that request would run in the bridge's context.)
The thread appends events to a deque, and the task sends them. Unflushed events are sent with the
next flush or when the application returns, so a small response needs no separate wake-up.

Backpressure counts the memory of the events, from `append` until their batch is sent. There are two
counts, each written by one thread, so they need no lock. Reads of `closed` and `ended` may lag
behind; an event that is appended after `close` is never sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

from ._errors import LOOP_ENDED, ClientDisconnected
from ._loop_end import has_ended
from ._two_sided_wait import Lend, TwoSidedWait
from ._types import Event

#: The memory of an event without its body: a dict with three keys, a tuple, the bytes object's
#: header, a slot of the deque and the garbage collector's header. `sys.getsizeof` gives 312 to 370
#: bytes on CPython 3.11 to 3.15.
EVENT_OVERHEAD = 400


class ResponseQueue:
    """The events of one response on their way to `send`; a Sink for the application's thread.

    The thread blocks for long periods only inside the context manager that `lend` returns (see
    `_workers`).
    """

    __slots__ = (
        "_appended",
        "_events",
        "_limit",
        "_loop",
        "_sent",
        "_taken",
        "_wait",
        "closed",
        "ended",
        "is_watched",
    )

    def __init__(self, limit: int, lend: Lend) -> None:
        self._wait = TwoSidedWait(lend)
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[Event, int]] = deque()
        self._appended = 0
        self._sent = 0
        self._taken = 0
        self.closed = False
        """Whether appended events are dropped."""
        self.ended = False
        """Whether the event that ends the response was appended."""
        self.is_watched = False
        """Whether the application must stop when the client leaves."""

    # The application's thread

    def append(self, event: Event, size: int) -> None:
        """Add an event with `size` bytes of body; raises ClientDisconnected once closed."""
        if self.closed:
            raise ClientDisconnected("the client has disconnected")
        cost = size + EVENT_OVERHEAD
        self._appended += cost
        self._events.append((event, cost))

    def end(self, event: Event, size: int) -> None:
        """Add the event that ends the response; see `append`."""
        self.ended = True
        self.append(event, size)

    def flush(self) -> None:
        """Wake the request's task if it is asleep and there is something to send."""
        if self._events:
            self._wake_from_thread()

    def watch(self) -> None:
        """Make the request's task watch for the client leaving."""
        if not self.is_watched:
            self.is_watched = True
            self._wake_from_thread()

    def _wake_from_thread(self) -> None:
        try:
            self._wait.wake_task()
        except RuntimeError as error:  # the event loop is closed
            self.close()
            raise ClientDisconnected(LOOP_ENDED) from error

    def wait_for_room(self) -> None:
        """Block while too much is in flight; raises ClientDisconnected once closed.

        The application's thread calls this after each chunk, so an endless response ends with its
        loop.
        """
        if self._appended - self._sent >= self._limit:
            self._wait_until(self._has_room)
        elif self.closed:
            raise ClientDisconnected("the client has disconnected")
        elif has_ended(self._loop):
            self._fail_without_loop()

    def wait_until_sent(self) -> None:
        """Block while anything is in flight; raises ClientDisconnected once closed."""
        self._wait_until(self._is_all_sent)

    def _wait_until(self, satisfied: Callable[[], bool]) -> None:
        self.flush()
        if not self._wait.wait_in_thread(satisfied):
            self._fail_without_loop()
        if self.closed:
            raise ClientDisconnected("the client has disconnected")

    def _fail_without_loop(self) -> NoReturn:
        self.close()
        raise ClientDisconnected(LOOP_ENDED)

    def is_open(self) -> bool:
        """Whether appended events can still be sent. Close the queue if its loop has ended."""
        if not self.closed and has_ended(self._loop):
            self.close()
        return not self.closed

    def send(self, event: Event) -> None:
        """Append, flush and wait; for subclasses that send events themselves."""
        self.ended = event["type"] != "http.response.start" and not event.get("more_body")
        self.append(event, len(event.get("body", b"")))
        self.flush()
        self.wait_for_room()

    def _has_room(self) -> bool:
        return self._appended - self._sent < self._limit or self.closed

    def _is_all_sent(self) -> bool:
        return self._appended == self._sent or self.closed

    # The event loop's thread

    def sleep(self) -> Coroutine[Any, Any, bool]:
        """Wait for a flush, or for `wake`; see `TwoSidedWait.wait_in_task`."""
        return self._wait.wait_in_task()

    def take(self) -> Iterator[Event]:
        """Yield the events appended so far. Asking for the next event confirms the previous one."""
        for _ in range(len(self._events)):
            if self.closed:
                return
            try:
                event, cost = self._events.popleft()
            except IndexError:  # another thread has just called `close`
                return
            yield event
            self._taken += cost

    def make_room(self) -> bool:
        """Free the memory of the sent events; return whether the thread was waiting for it.

        Called after each batch, not each event, because waking a thread costs as much as sending
        several chunks.
        """
        self._sent = self._taken
        return self._wait.wake_threads()

    # Any thread

    def wake(self) -> None:
        """Wake the request's task, or make its next sleep return immediately."""
        self._wait.wake_task()

    def close(self) -> None:
        """Discard queued events, and refuse new ones."""
        self.closed = True
        self._events.clear()
        self._wait.wake_threads()
