"""One run of the application for a scope, between `StatelessServer` and the scope's line.

The application is called with the ``receive`` and ``send`` of this, so that it need not know of
Redis: that it asks for the next message is what acknowledges the one before.

A cancellation has no one meaning. While the partition is held, nobody here cancels an application
that has a message in hand, so the application has done it to itself, which is a failure; and when
the partition drains or is lost, the message is left as it is, for the next holder.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.compatibility import SingleCallable

from ._line import Line, LineState
from ._partition import Partition

#: Characters of a traceback in a dead letter; the end of it is what tells most.
TRACE_SIZE = 16_000


class Run:
    """A running application. ``receive`` is that of its server, which gives the line."""

    __slots__ = ("_line", "_partition", "_receive")

    def __init__(self, line: Line, receive: Callable[[], Awaitable[Any]]) -> None:
        self._line = line
        self._partition = line.partition
        self._receive = receive

    async def run(self, application: SingleCallable, scope: Any) -> None:
        try:
            await application(scope=scope, receive=self.receive, send=self.send)
        except (Exception, asyncio.CancelledError) as error:
            if self._partition.is_ours and (
                self._partition.takes_new or not isinstance(error, asyncio.CancelledError)
            ):
                self._failed(error)
            raise
        else:
            self._line.finish()
        finally:
            self._partition.run_ended(self._line)

    async def receive(self) -> Any:
        """The next message; the one before is finished."""
        self._partition.check()
        self._line.finish()
        await self._receive()
        self._partition.check()
        return self._line.begin()

    async def send(self, message: Any) -> None:
        """Send an event to the gateway."""
        await self._partition.send(self._line, message)

    def _failed(self, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"[:1000]
        trace = "".join(traceback.format_exception(error))[-TRACE_SIZE:]
        if self._line.state is LineState.IN_HAND:
            self._line.fail(reason, trace)
        else:
            self._line.trouble = (reason, trace)


def line_of(scope: Any, partition: Partition | None) -> Line | None:
    """The line that an application was started for; None if its partition has gone meanwhile."""
    place = scope["redis"]
    if partition is None or not partition.is_ours or partition.token != place["token"]:
        return None
    return partition.lines.get(place["scope_id"])
