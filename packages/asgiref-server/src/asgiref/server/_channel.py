"""The application's side of a scope: the ``receive`` and ``send`` that one instance is called with.

An application's frames refer to its channel, and an exception's traceback to those frames. The
channel therefore knows neither the instance's record nor its task: a failed application would
otherwise hold itself in a reference cycle until a garbage collection finds it.

`Channel.receive` waits by itself instead of in ``Queue.get``, which would be a second suspended
coroutine for every idle scope (about 350 bytes each).
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ._calls import call
from ._queue import InputQueue


class Sink(Protocol):
    """Where what applications send goes."""

    def application_send(self, scope: Any, message: Any) -> Any: ...


class Channel:
    """Both directions of one application instance.

    Attributes:
        active_at: when a message last went either way, in seconds of ``time.monotonic``.
        waiting: how many of the application's tasks wait in ``receive``.
        received: whether it has ever received a message.
        closed: the instance is cancelled; its input now belongs to whoever comes next.
        when_drained: called when the application asks for a message and none is there; set while
            the server shuts down, when that means that the application has finished what it had.
    """

    __slots__ = (
        "_bridged",
        "_sink",
        "active_at",
        "closed",
        "queue",
        "received",
        "waiting",
        "when_drained",
    )

    def __init__(self, queue: InputQueue, sink: Sink, *, bridged: bool) -> None:
        self.queue = queue
        self._sink = sink
        self._bridged = bridged  # the sink is a plain function, to be run on a worker thread
        self.active_at = time.monotonic()
        self.waiting = 0
        self.received = False
        self.closed = False
        self.when_drained: Callable[[], object] | None = None

    async def receive(self) -> Any:
        """Wait for the next message of the scope."""
        if self.closed:
            raise RuntimeError(
                f"The application for scope {self.queue.scope_id!r} was cancelled, and cannot "
                "receive any more."
            )
        queue = self.queue
        while queue.empty():
            if self.when_drained is not None:
                self.when_drained()
            self.waiting += 1
            try:
                await queue.next_put()
            finally:
                self.waiting -= 1
        self.received = True
        return queue.get_nowait()

    def send(self, message: Any) -> Awaitable[Any]:
        """Hand ``message`` to the server's ``application_send``; to be awaited."""
        self.active_at = time.monotonic()
        if self._bridged:
            return call(self._sink.application_send, self.queue.scope, message)
        sending: Awaitable[Any] = self._sink.application_send(self.queue.scope, message)
        return sending
