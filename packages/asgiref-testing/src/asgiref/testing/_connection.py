"""The client that an HTTP exchange and a websocket conversation share; it may disconnect.

A disconnect reaches the application in the two ways that the specification defines: once as an
event that it can receive, and as an ``OSError`` from every later ``send``, which ends an endless
response.

At the end of a helper's block, the client disconnects, and the application gets time to end by
itself, as under a server. If it is still running after that time, it is cancelled and the test
fails. An application may end by letting the ``OSError`` propagate; that is not a failure.
"""

# ruff: noqa: ASYNC109 - the timeout of the public methods

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, cast

from ._communicator import ApplicationCommunicator
from ._output import Output
from ._rules import CheckedQueue, Rules, next_event
from ._runner import Runner
from ._scopes import Overrides

#: Bytes that an application may send before the test reads; servers have a limit too.
_HIGH_WATER = 1 << 20
#: Bytes that an event takes in addition to its body.
_EVENT_SIZE = 256


class ClientDisconnected(OSError):
    """Raised by ``send`` in an application whose client has disconnected."""


class Wire(CheckedQueue):
    """The application's events on their way to the client, with backpressure."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._size = 0
        self.hung_up = False

    async def put(self, item: Output) -> None:
        if self.hung_up and not self.rules.is_over:
            await asyncio.sleep(0)  # an application that retries at once must not freeze the test
            raise ClientDisconnected("The client has disconnected; it can receive nothing more.")
        await super().put(item)
        await asyncio.sleep(0)  # let the client run, as a network does
        while self._size > _HIGH_WATER and not self.hung_up:
            await self._changed_by(None)

    def _put(self, item: Output) -> None:
        self._size += _size_of(item)
        super()._put(item)

    def _get(self) -> Output:
        item = super()._get()
        self._size -= _size_of(item)
        self.wake()  # `put` may be waiting for the client to read
        return item

    def hang_up(self) -> None:
        self.hung_up = True
        self.wake()

    def excuses(self, failure: BaseException) -> bool:
        """Return whether an application may end with ``failure``, because of the disconnect."""
        return self.hung_up and _passes_on_the_disconnect(failure)


def _size_of(event: Mapping[str, Any]) -> int:
    parts: list[Any] = [event.get("body"), event.get("bytes"), event.get("text")]
    return _EVENT_SIZE + sum(len(part) for part in parts if isinstance(part, (bytes, str)))


class Client:
    """The client's end of a connection to an application.

    Attributes:
        rules: what the application may send.
        runner: runs the application.
        reading: held while an event is taken and recorded, so that both happen in one step.
    """

    def __init__(self, application: object, rules: Rules) -> None:
        self.rules = rules
        self._wire = Wire(rules)
        self.runner = Runner(application, self._wire, is_expected=self._wire.excuses)
        self.reading = asyncio.Lock()
        self._told_disconnect = False

    async def event(self, timeout: float | None, *due: str) -> Output:
        """Return the application's next event, which should have one of the types ``due``."""
        return await next_event(self.runner, self.rules, timeout, *due)

    async def hang_up(self, event: Output) -> None:
        """End the connection, and let the application receive ``event``."""
        self.note_end()
        await self.tell_disconnect(event)
        self._wire.hang_up()

    async def tell_disconnect(self, event: Output) -> None:
        """Let the application receive the disconnect, once."""
        if not self._told_disconnect:
            self._told_disconnect = True
            if not self.runner.task.done():
                await self.runner.send(event)

    def note_end(self) -> None:
        """Record whether the application returned before the client disconnected."""
        if not self._wire.hung_up and self.runner.has_returned():
            self.rules.note_end()


class Connection(ApplicationCommunicator):
    """A communicator that acts as a client.

    Attributes:
        timeout: how many seconds each wait for the application may take.
    """

    def __init__(
        self, application: object, scope: Overrides, timeout: float | None, rules: Rules
    ) -> None:
        super().__init__(application, scope)
        self.__asgiref_client = Client(application, rules)
        self._asgiref_use(self.__asgiref_client.runner)
        self.timeout = timeout

    @property
    def _asgiref_client(self) -> Client:
        """Start the application if necessary, and return the client."""
        _ = self.future
        return self.__asgiref_client

    def _asgiref_departure(self) -> Output:
        """The event that tells the application that its client has disconnected."""
        raise NotImplementedError

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_type is None:
            client = self._asgiref_client
            await client.hang_up(self._asgiref_departure())
            if not await client.runner.ends_within(self.timeout):
                what = f"did not end within {self.timeout} s of the disconnect"
                await client.runner.time_out(what)
        await super().__aexit__(exc_type, exc_val, exc_tb)

    def raise_unseen_failure(self) -> None:
        """Raise the application's failure, if it has failed, unless the test has already seen it.

        An event that a server would reject is a failure, and so is a response that is incomplete
        when the application returns. An ``async with`` block does this when it exits; call it at
        the end of a test that has no block. It does not wait, and needs no event loop.
        """
        super().raise_unseen_failure()
        client = self.__asgiref_client
        if not client.runner.failure_raised:
            client.note_end()
            client.rules.raise_violation()


def _passes_on_the_disconnect(failure: BaseException, above: frozenset[int] = frozenset()) -> bool:
    """Return whether a failure is the disconnect itself, or was raised to report it.

    An exception that was merely raised while the disconnect was being handled may be a bug in
    cleanup code. It counts as a report if it was raised from the disconnect, or if the name of its
    class contains "Disconnect".
    ``above`` contains the ids of the exceptions that led to this one: meeting one again is a cycle,
    as in ``raise e from e``, but one exception in several branches of a group is not.
    """
    each, path = failure, set(above)
    while not isinstance(each, ClientDisconnected):
        if id(each) in path:
            return False
        path.add(id(each))
        if isinstance(each, BaseExceptionGroup):
            inner = cast(BaseExceptionGroup[BaseException], each).exceptions
            return all(_passes_on_the_disconnect(one, frozenset(path)) for one in inner)
        named = "Disconnect" in type(each).__name__
        before = each.__cause__ or (each.__context__ if named else None)
        if before is None:
            return False
        each = before
    return True
