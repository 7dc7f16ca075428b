"""Ending scopes that have been quiet for too long.

Each instance has one timer, started with it. A message costs nothing here: it leaves the time at
which it came in the channel, and the timer, when it fires, looks how much of the limit is left from
there. So a busy instance's timer fires once per limit, not once per message.
"""

import asyncio
import time
from collections.abc import Callable

from ._instance import ApplicationInstance


class IdleTimeout:
    """Calls ``end`` with each watched instance that is quiet for its limit."""

    def __init__(self, end: Callable[[ApplicationInstance], None]) -> None:
        self._end = end

    def watch(self, instance: ApplicationInstance, limit: float | None) -> None:
        """Begin to watch a started instance; do nothing without a limit (in seconds)."""
        if limit is not None:
            self._start(instance, limit, limit)

    def _start(self, instance: ApplicationInstance, limit: float, delay: float) -> None:
        loop = asyncio.get_running_loop()
        instance.idle_timer = loop.call_later(delay, self._look, instance, limit)

    def _look(self, instance: ApplicationInstance, limit: float) -> None:
        channel = instance.channel
        if channel is None:
            return
        left = channel.active_at + limit - time.monotonic()
        if left > 0 or not channel.queue.empty():
            self._start(instance, limit, left if left > 0 else limit)
        else:
            self._end(instance)
