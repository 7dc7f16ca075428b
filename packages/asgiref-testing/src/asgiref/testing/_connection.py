"""What an HTTP exchange and a websocket conversation share: a client that may hang up.

The client's end of a connection is told to the application in the two ways that the specification
has: once as an event that it can receive, and as an ``OSError`` from every ``send`` after it. The
second is what ends a response without end.

When the block of a helper ends, the client hangs up and the application gets its time to end by
itself, as under a server: background work after a response is not cut short. Only when that time is
over it is cancelled, and the test fails. A failure that merely passes on the ``OSError`` is how an
application is meant to end then, and no failure of the test.
"""

import asyncio
from types import TracebackType
from typing import Any, Never, cast

from ._communicator import ApplicationCommunicator
from ._output import Output, OutputQueue
from ._report import type_of
from ._scopes import Overrides


class ClientDisconnected(OSError):
    """Raised by ``send`` in an application whose client has gone."""


class Wire(OutputQueue):
    """The way to the client. A send is also the other side's turn, as it is on a network."""

    def __init__(self) -> None:
        super().__init__()
        self.hung_up = False

    async def put(self, item: Output) -> None:
        if self.hung_up:
            raise ClientDisconnected("The client has disconnected; nothing can be sent to it.")
        await super().put(item)
        await asyncio.sleep(0)


class Connection(ApplicationCommunicator):
    """A communicator whose side of the conversation is a client's."""

    def __init__(self, application: object, scope: Overrides, timeout: float | None) -> None:
        super().__init__(application, scope)
        self._outputs = self._wire = Wire()
        self._told_disconnect = False
        self.timeout = timeout

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_type is None:
            await self._hang_up(self._departure())
            if not await self._ended_within(self.timeout):
                await self._give_up(
                    self._timed_out(f"did not end within {self.timeout} s of the disconnect"), True
                )
        await super().__aexit__(exc_type, exc_val, exc_tb)

    def _departure(self) -> Output:
        """The event that tells an application that its client has gone."""
        raise NotImplementedError

    async def _hang_up(self, event: Output) -> None:
        """End the connection from the client's side."""
        await self._tell_disconnect(event)
        self._wire.hung_up = True

    async def _tell_disconnect(self, event: Output) -> None:
        if not self._told_disconnect:
            self._told_disconnect = True
            if not self.future.done():
                await self.send_input(event)

    async def _event(self, *due: str) -> Output:
        """The next event that the application sends, which must be one of the types ``due``."""
        try:
            event = await self.receive_output(self.timeout)
        except TimeoutError as error:
            error.add_note(f"The test waited for {' or '.join(due)}.")
            raise
        if event.get("type") not in due:
            self._complain(f"sent {type_of(event)!r} where {' or '.join(due)} was due")
        return event

    def _field(self, event: Output, key: str, kind: type[Any], default: object) -> Any:
        """The value of an event's optional key, which must be of that type."""
        value = event.get(key, default)
        if not isinstance(value, kind):
            self._complain(f"sent {type_of(event)!r} with a {key} that is no {kind.__name__}")
        return value

    def _complain(self, what: str) -> Never:
        raise AssertionError(f"{self._name} {what}.")

    def _is_expected(self, failure: BaseException) -> bool:
        return self._wire.hung_up and _passes_on_the_disconnect(failure)


def _passes_on_the_disconnect(failure: BaseException) -> bool:
    if isinstance(failure, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], failure)
        return all(map(_passes_on_the_disconnect, group.exceptions))
    if isinstance(failure, ClientDisconnected):
        return True
    before = failure.__cause__ or failure.__context__
    return before is not None and _passes_on_the_disconnect(before)
