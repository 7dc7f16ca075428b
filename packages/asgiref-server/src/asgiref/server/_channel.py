"""The application's side of a scope: the ``receive`` and ``send`` that one instance is called with.

An application's frames refer to its channel, and an exception's traceback to those frames. The
channel therefore knows neither the instance's record nor its task: a failed application would
otherwise hold itself in a reference cycle until a garbage collection finds it.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from ._queue import InputQueue

Outbound = Callable[[object, Any], Awaitable[None]]


class Channel:
    """Both directions of one application instance.

    Attributes:
        active_at: when a message last went either way, in seconds of ``time.monotonic``.
        receiving: whether the application waits in ``receive``.
        closed: the instance is cancelled; its input now belongs to whoever comes next.
        when_drained: called when the application asks for a message and none is there; set while
            the server shuts down, when that means that the application has finished what it had.
    """

    __slots__ = ("_outbound", "active_at", "closed", "queue", "receiving", "when_drained")

    def __init__(self, queue: InputQueue, outbound: Outbound) -> None:
        self.queue = queue
        self._outbound = outbound
        self.active_at = time.monotonic()
        self.receiving = False
        self.closed = False
        self.when_drained: Callable[[], object] | None = None

    async def receive(self) -> Any:
        """Wait for the next message of the scope."""
        if self.closed:
            raise RuntimeError(
                f"The application for scope {self.queue.scope_id!r} was cancelled, and cannot "
                "receive any more."
            )
        if self.when_drained is not None and self.queue.empty():
            self.when_drained()
        self.receiving = True
        try:
            return await self.queue.get()
        finally:
            self.receiving = False

    def send(self, message: Any) -> Awaitable[None]:
        """Hand ``message`` to the server's ``application_send``; to be awaited."""
        self.active_at = time.monotonic()
        return self._outbound(self.queue.scope, message)
