"""How many threads run the application at once: `Limiter` hands out that many tokens.

A thread runs the application only while it holds a token. It gives the token up while it waits for
a client, and goes on only after it has got one back, so no moment exists in which more threads run
the application than there are tokens. Threads that want to go on come before new requests: they
hold memory and a connection already.

The invariant: while a request or a thread waits for a token, none is free.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import ThreadEvent

A = TypeVar("A")


class _Waiter:
    """A request or a thread that waits for a token."""

    __slots__ = ("event", "granted")

    def __init__(self, event: ThreadEvent | threading.Event) -> None:
        self.event = event
        self.granted = False


class Limiter:
    """Hands out `limit` tokens, to threads that resume first, then to requests in their order."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._free = limit
        self._resuming: deque[_Waiter] = deque()
        self._requests: deque[_Waiter] = deque()
        self._thread = threading.local()

    @property
    def is_held(self) -> bool:
        """Whether the calling thread runs a request that has a token."""
        return getattr(self._thread, "is_holder", False)

    def mark_thread(self) -> None:
        """Note that the calling thread runs requests that have a token, and nothing else."""
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
            with self._lock:
                if not waiter.granted:
                    self._requests.remove(waiter)
            if waiter.granted:
                self.release()
            raise

    def acquire_in_thread(self) -> None:
        """Block until the calling thread has a token."""
        waiter = _Waiter(event := threading.Event())
        if not self._enqueue(self._resuming, waiter):
            event.wait()

    def _enqueue(self, queue: deque[_Waiter], waiter: _Waiter) -> bool:
        """Queue up, or return True where a token is free."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            queue.append(waiter)
            return False

    def release(self) -> None:
        """Give a token to the next in the queue, or back. Any thread may call it."""
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
                continue  # the request's event loop is closed: the token goes to the next one
            return


class Token:
    """The token of one request, which is given back exactly once."""

    __slots__ = ("_limiter", "_unclaimed")

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        # Holds one item until the thread or `discard` takes it; `pop` is atomic. The one that gets
        # the item gives the token back.
        self._unclaimed = [None]

    def run(self, function: Callable[[A], None], argument: A) -> None:
        """Call the function on a worker thread, and give the token back."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        limiter = self._limiter
        limiter.mark_thread()
        try:
            function(argument)
        finally:
            limiter.release()

    def discard(self) -> None:
        """Give the token back unless a thread has started, which will do it."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        self._limiter.release()
