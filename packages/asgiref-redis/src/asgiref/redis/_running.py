"""One run of the application for a scope, between `StatelessServer` and the scope's line.

The application is called with the ``receive`` and ``send`` of this, so that it need not know of
Redis: that it asks for the next message is what acknowledges the one before.

A message is in hand from the step of the event loop in which ``receive`` gives it to whoever awaits
that. Before this step nothing has been taken: a ``receive`` that is cancelled while it waits, in
the very moment in which a message comes, leaves it where it is for the next one.

A cancellation has no one meaning. While the partition is held, nobody here cancels an application
that has a message in hand, so the application has done it to itself, which is a failure; and when
the partition drains or is lost, the message is left as it is, for the next holder.

SystemExit is a failure of the message, and does not end the worker: ``sys.exit`` in some library
would take down one worker after the other. KeyboardInterrupt is somebody at the keyboard, does end
the worker, and leaves the message as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.compatibility import SingleCallable

from ._explained import explained
from ._line import Line
from ._partition import Partition


class Run:
    """A running application. ``receive`` is that of its server, which gives the line."""

    __slots__ = ("_line", "_partition", "_receive")

    def __init__(self, line: Line, receive: Callable[[], Awaitable[Any]]) -> None:
        self._line = line
        self._partition: Partition = line.partition
        self._receive = receive
        line.run = self

    async def run(self, application: SingleCallable, scope: Any) -> None:
        try:
            await application(scope=scope, receive=self.receive, send=self.send)
        except SystemExit as error:
            self._failed(error)
            raise RuntimeError(f"The application exited with {error.code!r}.") from error
        except KeyboardInterrupt:
            self._let_go()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        else:
            self._line.finish(self)
        finally:
            self._partition.run_ended(self._line, self)

    async def receive(self) -> Any:
        """The next message; the one before is finished."""
        self._partition.check()
        self._line.finish(self)
        line: Line = await self._receive()
        self._partition.check()
        self._line = line
        return line.begin(self)

    async def send(self, message: Any) -> None:
        """Send an event to the gateway."""
        await self._partition.send(self._line, self, message)

    def _let_go(self) -> None:
        if self._line.in_hand_of(self) is not None:
            self._line.cut()

    def _failed(self, error: BaseException) -> None:
        cancelled = isinstance(error, asyncio.CancelledError)
        if not (self._partition.is_ours and (self._partition.takes_new or not cancelled)):
            return
        in_hand = self._line.in_hand_of(self) is not None
        if in_hand or (self._line.run is self and not cancelled):
            reason, trace = explained(error)
            if in_hand:
                self._line.fail(reason, trace)
            else:
                self._line.trouble = (reason, trace)
