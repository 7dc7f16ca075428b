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
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Never, cast

from ._communicator import ApplicationCommunicator
from ._output import Output, OutputQueue
from ._report import describe, is_mapping, safe_repr, type_of
from ._scopes import Overrides, fault_of_headers

#: Bytes that an application may send before the test reads, as under a server.
_HIGH_WATER = 1 << 20
#: What an event counts for beside its body.
_EVENT_SIZE = 256


class ClientDisconnected(OSError):
    """Raised by ``send`` in an application whose client has gone."""


class Rules:
    """What an application may send next. A violation is raised in ``send``, and kept for the test.

    It does not refer to the communicator, which is finalized when the test drops it.

    Attributes:
        violation: the first event that a server would have rejected, in a sentence; or None.
        is_over: whether the application has sent everything that it may.
    """

    def __init__(self, application: object) -> None:
        self._asgi_name = describe(application)
        self.violation: str | None = None
        self.is_over = False

    def check(self, event: object) -> Output:
        """Take note of an event that is sent, and return a copy, readable more than once.

        Raises:
            AssertionError: if the specification does not allow it.
        """
        if not is_mapping(event) or not isinstance(cast(Output, event).get("type"), str):
            self.complain("sent something that is no event: a mapping with a 'type'", event)
        if self.is_over:
            self.complain(f"sent {type_of(event)!r} after the end", event)
        checked = dict(cast(Output, event))
        if isinstance(checked.get("headers"), Iterator):
            checked["headers"] = list(checked["headers"])
        self._advance(checked)
        # The application may use its objects again, as under a server.
        for key in ("body", "bytes"):
            if isinstance(checked.get(key), bytearray | memoryview):
                checked[key] = bytes(checked[key])
        if "headers" in checked:
            checked["headers"] = [tuple(line) for line in checked["headers"]]
        return checked

    def _advance(self, event: Output) -> None:
        raise NotImplementedError

    def complain(self, what: str, event: object) -> Never:
        text = f"{self._asgi_name} {what}: {safe_repr(event)}"
        self.violation = self.violation or text
        raise AssertionError(text)

    def require_due(self, event: Output, *due: str) -> None:
        if event["type"] not in due:
            self.complain(f"sent {event['type']!r} where {' or '.join(due)} was due", event)

    def require_headers(self, event: Output) -> None:
        fault = fault_of_headers(event.get("headers", ()))
        if fault is not None:
            self.complain(f"sent {event['type']!r} with {fault}", event)

    def require_bytes(self, event: Output, key: str) -> None:
        if not isinstance(event.get(key, b""), bytes | bytearray | memoryview):
            self.complain(f"sent {event['type']!r} with a {key} that is no bytes", event)

    def require_status(self, event: Output) -> None:
        status = event.get("status")
        if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 999:
            self.complain(f"sent {event['type']!r} with the status {safe_repr(status)}", event)


class Wire(OutputQueue):
    """The way to the client. A send is also the other side's turn, as it is on a network."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules
        self._size = 0
        self.hung_up = False

    async def put(self, item: Output) -> None:
        if self.hung_up and not self._rules.is_over:
            raise ClientDisconnected("The client has disconnected; nothing can be sent to it.")
        self.put_nowait(self._rules.check(item))
        await asyncio.sleep(0)
        while self._size > _HIGH_WATER and not self.hung_up:
            await self._changed_by(None)

    def _put(self, item: Output) -> None:
        self._size += _size_of(item)
        super()._put(item)

    def _get(self) -> Output:
        item = super()._get()
        self._size -= _size_of(item)
        return item

    def hang_up(self) -> None:
        self.hung_up = True
        self.wake()


def _size_of(event: Mapping[str, Any]) -> int:
    parts: list[Any] = [event.get("body"), event.get("bytes"), event.get("text")]
    return _EVENT_SIZE + sum(len(part) for part in parts if part is not None)


class Connection(ApplicationCommunicator):
    """A communicator whose side of the conversation is a client's."""

    def __init__(
        self, application: object, scope: Overrides, timeout: float | None, rules: Rules
    ) -> None:
        super().__init__(application, scope)
        self._rules = rules
        self._asgi_outputs = self._wire = Wire(rules)
        self._told_disconnect = False
        self._told_violation = False
        self._reading = asyncio.Lock()  # an event and its consequences are one step
        self.timeout = timeout

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_type is None:
            await self._hang_up(self._departure())
            if not await self._asgi_ended_within(self.timeout):
                await self._asgi_give_up(
                    self._asgi_timed_out(f"did not end within {self.timeout} s of the disconnect"),
                    True,
                )
        await super().__aexit__(exc_type, exc_val, exc_tb)

    def raise_unseen_failure(self) -> None:
        super().raise_unseen_failure()
        if not self._asgi_failure_raised:
            self._raise_violation()

    def _raise_violation(self) -> None:
        """Raise what the application has done against the specification, unless the test knows."""
        if self._rules.violation is not None and not self._told_violation:
            self._told_violation = True
            raise AssertionError(self._rules.violation)

    def _departure(self) -> Output:
        """The event that tells an application that its client has gone."""
        raise NotImplementedError

    async def _hang_up(self, event: Output) -> None:
        """End the connection from the client's side."""
        await self._tell_disconnect(event)
        self._wire.hang_up()

    async def _tell_disconnect(self, event: Output) -> None:
        if not self._told_disconnect:
            self._told_disconnect = True
            if not self.future.done():
                await self.send_input(event)

    async def _event(self, *due: str) -> Output:
        """The next event that the application sends, of one of the types ``due``."""
        if self._asgi_outputs.empty():
            self._raise_violation()
        try:
            return await self.receive_output(self.timeout)
        except TimeoutError as error:
            self._raise_violation()
            error.add_note(f"The test waited for {' or '.join(due)}.")
            raise

    def _asgi_is_expected(self, failure: BaseException) -> bool:
        return self._wire.hung_up and _passes_on_the_disconnect(failure)


def _passes_on_the_disconnect(failure: BaseException) -> bool:
    """Whether a failure is the disconnect itself, or was raised to say the same.

    An exception that was only raised while the disconnect was handled may be a fault of a cleanup.
    It says the same if it was raised from it, or if it calls itself a disconnect.
    """
    waiting, groups = [failure], set[int]()
    while waiting:
        each, chain = waiting.pop(), set[int]()
        while not isinstance(each, ClientDisconnected):
            if id(each) in chain:  # `raise e from e`
                return False
            chain.add(id(each))
            if isinstance(each, BaseExceptionGroup):
                group = cast(BaseExceptionGroup[BaseException], each)
                if id(group) not in groups:
                    groups.add(id(group))
                    waiting.extend(group.exceptions)
                break
            named = "Disconnect" in type(each).__name__
            before = each.__cause__ or (each.__context__ if named else None)
            if before is None:
                return False
            each = before
    return True
