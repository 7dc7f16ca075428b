"""The application's side of a scope: the ``receive`` and ``send`` that one instance is called with.

An application's frames refer to its channel, and an exception's traceback to those frames. The
channel therefore knows neither the instance's record nor its task: a failed application would
otherwise hold itself in a reference cycle until a garbage collection finds it.

`Channel.receive` waits by itself instead of in ``Queue.get``, which would be a second suspended
coroutine for every idle scope (about 350 bytes each).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ._calls import call, is_async
from ._queue import InputQueue


class Sink(Protocol):
    """Where what applications send goes."""

    def application_send(self, scope: Any, message: Any) -> Any: ...


class Channel:
    """Both directions of one application instance.

    Attributes:
        scope: what the application was called with.
        active_at: when a message last went either way, in seconds of ``time.monotonic``.
        received: whether it has ever received a message.
        closed: the instance has ended or is cancelled. Its input belongs to whoever comes next, and
            a task of it that still waits for some is cancelled.
        when_drained: called when the application asks for a message and none is there; set while
            the server shuts down, when that means that the application has finished what it had.
    """

    __slots__ = (
        "_sink",
        "active_at",
        "closed",
        "queue",
        "received",
        "scope",
        "when_drained",
    )

    def __init__(self, queue: InputQueue, scope: object, sink: Sink) -> None:
        self.queue: InputQueue = queue
        self.scope: object = scope
        self._sink = sink
        self.active_at: float = time.monotonic()
        self.received: bool = False
        self.closed: bool = False
        self.when_drained: Callable[[], object] | None = None

    async def receive(self) -> Any:
        """Wait for the next message of the scope."""
        queue = self.queue
        if self.closed:
            raise RuntimeError(
                f"The application for scope {queue.scope_id!r} has ended or was cancelled, and "
                "cannot receive any more."
            )
        while queue.items is None:
            if self.when_drained is not None:
                self.when_drained()
            await queue.next_put()
            if self.closed:
                raise asyncio.CancelledError
        self.received = True
        return queue.get_nowait()

    def send(self, message: Any) -> Awaitable[Any]:
        """Hand ``message`` to the server's ``application_send``; to be awaited."""
        self.active_at = time.monotonic()
        sending: Awaitable[Any] = self._sink.application_send(self.scope, message)
        return sending


class BridgedChannel(Channel):
    """For a server whose ``application_send`` is a plain function: it is called on a thread.

    The calls for one scope are made one after the other, in the order of the sends.
    """

    __slots__ = ()

    async def send(self, message: Any) -> Any:
        self.active_at = time.monotonic()
        queue = self.queue
        if queue.sending is None:
            queue.sending = asyncio.Lock()
        async with queue.sending:
            return await call(self._sink.application_send, self.scope, message)


def channel_for(application_send: Callable[..., object]) -> type[Channel]:
    """The class of channels for a server whose ``application_send`` this is."""
    return Channel if is_async(application_send) else BridgedChannel
