"""Limits how many threads run the application at once, with tokens.

A thread runs the application only while it holds a token. It releases the token while it waits for
a client, and resumes only with a token, so no more threads run the application than there are
tokens. Threads that resume take precedence over new requests, because they already hold memory and
a connection.

The invariant: while a request or a thread waits for a token, none is free.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import ThreadEvent

from ._loop_end import CHECK_SECONDS, has_ended

A = TypeVar("A")


class _Waiter:
    """A request or a thread that waits for a token."""

    __slots__ = ("event", "granted")

    def __init__(self, event: ThreadEvent | threading.Event) -> None:
        self.event = event
        self.granted = False


class Limiter:
    """Hands out `limit` tokens: first to threads that resume, then to requests in order."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._free = limit
        self._resuming: deque[_Waiter] = deque()
        self._requests: deque[_Waiter] = deque()
        self._thread = threading.local()

    @property
    def is_held(self) -> bool:
        """Whether the calling thread runs a request that holds a token."""
        return getattr(self._thread, "is_holder", False)

    def mark_thread(self) -> None:
        """Record that the calling thread runs a request that holds a token."""
        self._thread.is_holder = True

    def try_acquire(self) -> bool:
        """Take a token if one is free."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    async def acquire(self) -> None:
        """Wait for a token. May be cancelled."""
        waiter = _Waiter(event := ThreadEvent())
        if self._enqueue(self._requests, waiter):
            return
        try:
            while not waiter.granted:
                await event.wait()
        except BaseException:
            if not self._leave(self._requests, waiter):
                self.release()
            raise

    def acquire_in_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        """Block until the calling thread, which serves a request on `loop`, has a token.

        If the loop has ended, the thread finishes its request without one: requests that hold
        tokens may wait for the same loop.
        """
        waiter = _Waiter(event := threading.Event())
        if self._enqueue(self._resuming, waiter):
            return
        while not event.wait(CHECK_SECONDS):
            if has_ended(loop) and self._leave(self._resuming, waiter):
                self._thread.is_holder = False
                return

    def _enqueue(self, queue: deque[_Waiter], waiter: _Waiter) -> bool:
        """Join the queue, or return True if a token is free."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            queue.append(waiter)
            return False

    def _leave(self, queue: deque[_Waiter], waiter: _Waiter) -> bool:
        """Leave the queue, or return False if the waiter was granted a token."""
        with self._lock:
            if not waiter.granted:
                queue.remove(waiter)
            return not waiter.granted

    def release(self) -> None:
        """Pass the token to the next waiter, or return it. Callable from any thread."""
        while True:
            with self._lock:
                queue = self._resuming or self._requests
                if not queue:
                    self._free += 1
                    return
                waiter = queue.popleft()
                waiter.granted = True
            try:
                waiter.event.set()
            except RuntimeError:
                continue  # the request's event loop is closed: pass the token to the next waiter
            return


class Token:
    """The token of one request, which is returned exactly once."""

    __slots__ = ("_limiter", "_unclaimed")

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        # Holds one item until the thread or `discard` takes it; `pop` is atomic. The side that gets
        # the item returns the token.
        self._unclaimed = [None]

    def run(self, function: Callable[[A], None], argument: A) -> None:
        """Call the function on a worker thread, and return the token."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        limiter = self._limiter
        limiter.mark_thread()
        try:
            function(argument)
        finally:
            if limiter.is_held:
                limiter.release()

    def discard(self) -> None:
        """Return the token, unless a thread has started: that thread returns it."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        self._limiter.release()
