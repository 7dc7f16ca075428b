"""One run of the application for a scope: its record, and the ``receive`` and ``send`` it gets.

    LIVE ── leaves the table ──> CANCELLED ── its task ends ──> ENDED
      └───────────────────── its task ends ───────────────────────┘

A record is LIVE exactly as long as it is in ``server.application_instances``. Only a LIVE instance
receives; a CANCELLED one may still send. The table makes these transitions; see there.

asgiref kept a dict for each instance. Servers read ``details["scope"]`` and ``details["future"]``
from it, and insert dicts of their own: a record answers to those keys, `adopted` makes one.
"""

import asyncio
import enum
import inspect
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, cast

from asgiref.compatibility import SingleCallable

from ._hooks import leave_hook, safe_repr
from ._loop import cancel
from ._queue import InputQueue

logger = logging.getLogger("asgiref.server")

_KEYS = ("input_queue", "future", "scope", "last_used")
#: Seconds that a new instance waits for the cleanup of a cancelled one, twice.
_PREDECESSOR_SECONDS = 10.0
#: After so many calls of ``receive`` an instance that has ended waits in it until it is cancelled.
_MAX_REFUSALS = 5


class InstanceState(enum.Enum):
    LIVE = "live"
    CANCELLED = "cancelled"
    ENDED = "ended"


LIVE, CANCELLED, ENDED = InstanceState.LIVE, InstanceState.CANCELLED, InstanceState.ENDED


class Server(Protocol):
    """A `StatelessServer`, which is defined above this module."""

    application: Any
    max_applications: int

    def handle(self) -> Any: ...
    def application_checker(self) -> Any: ...
    def application_send(self, scope: Any, message: Any) -> Any: ...
    def delete_oldest_application_instance(self) -> None: ...
    def delete_application_instance(self, scope_id: Hashable) -> None: ...


@dataclass(slots=True, eq=False)
class Channel:
    """What one instance receives and sends through.

    It refers neither to the record nor, once the application has ended, to the task: a traceback
    leads from an exception to the application's frames and to here, and would close a cycle.
    """

    queue: InputQueue
    scope: object
    _server: Any
    state: InstanceState = LIVE
    #: When a message was last received or sent, in seconds of ``time.monotonic``.
    active_at: float = field(default_factory=lambda: time.monotonic())
    #: Whether a message was ever received.
    received: bool = False
    #: How many sends are in progress.
    sending: int = 0
    #: Called when the application asks for a message and none is there, at the server's end.
    on_drained: Callable[[], object] | None = None
    _turn: "asyncio.Future[Any] | None" = None
    _refusals: int = 0

    async def receive(self) -> Any:
        """Wait for the next message of the scope."""
        queue = self.queue
        if self.state is not LIVE:
            await self._refuse()
        while queue.items is None:
            if self.on_drained is not None and not self.sending:
                await self._drained(self.on_drained)
            # Not Queue.get: a second suspended coroutine costs 350 bytes for every idle scope.
            await queue.changed()
            if self.state is not LIVE:
                raise asyncio.CancelledError
        self.received = True
        self.active_at = time.monotonic()
        return queue.get_nowait()

    async def send(self, message: Any) -> Any:
        """Pass ``message`` to the server's ``application_send``, and wait for that."""
        if self.state is not LIVE:
            await asyncio.sleep(0)  # an application that sends in a loop must not block the others
        self.sending += 1
        self.active_at = time.monotonic()
        try:
            sending = self._server.application_send(self.scope, message)
            return await sending if inspect.isawaitable(sending) else sending
        except BaseException as error:
            await _suspend_after(error)  # likewise for one that tries again at once
            raise
        finally:
            self.sending -= 1
            self.active_at = time.monotonic()
            if self.on_drained is not None:
                self.queue.wake()

    def finish(self, on_drained: Callable[[], object]) -> None:
        """Have the instance end when it asks for a message and none is there, or waits for one."""
        self.on_drained = on_drained
        self.queue.wake()

    def release(self) -> None:
        """The instance is no longer live: end the calls of ``receive`` that wait."""
        self.queue.wake()

    async def _drained(self, on_drained: Callable[[], object]) -> NoReturn:
        on_drained()
        await asyncio.sleep(0)  # here the task is cancelled, unless another one than this receives
        raise asyncio.CancelledError

    async def _refuse(self) -> NoReturn:
        """Suspend, then raise. An application that goes on all the same waits longer each time."""
        self._refusals += 1
        if self._refusals > _MAX_REFUSALS:
            self.end_turn()  # the next instance need not wait for this one
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0 if self._refusals == 1 else 0.005 * 2**self._refusals)
        if self._refusals > 1:
            raise asyncio.CancelledError  # `except Exception` in a loop does not catch this
        raise RuntimeError(
            f"The application for scope {safe_repr(self.queue.scope_id)} has ended or was "
            "cancelled, and cannot receive any more."
        )

    # No two instances run for one scope

    async def begin_turn(self) -> None:
        """Wait until no cancelled instance runs for the scope, but not without a limit."""
        queue = self.queue
        for seconds in (_PREDECESSOR_SECONDS, 2 * _PREDECESSOR_SECONDS):
            runner = queue.runner
            if runner is None:
                break
            try:
                async with asyncio.timeout(_PREDECESSOR_SECONDS):
                    while queue.runner is not None:
                        await queue.changed()
            except TimeoutError:
                cancel(runner)
                logger.warning(
                    "The instance for scope %s that was cancelled has not ended after %g s: %s",
                    *(safe_repr(queue.scope_id), seconds),
                    "it is cancelled again, and the next one starts soon",
                )
        self._turn = queue.runner = asyncio.current_task()

    def end_turn(self) -> None:
        """Let the next instance run, if this one runs."""
        turn, self._turn = self._turn, None
        if turn is not None and self.queue.runner is turn:
            self.queue.runner = None
            self.queue.wake()


async def _suspend_after(error: BaseException) -> None:
    """Let the others run before ``error`` reaches an application that may ignore it in a loop."""
    if not isinstance(error, (GeneratorExit, KeyboardInterrupt)):
        await asyncio.sleep(0)


class MessageSource:
    """Where instances get their messages from, and where they acknowledge them.

    Subclass it and pass an object to `StatelessServer` to connect a message broker or a database.
    One message at a time is in an instance's hands: from the moment ``receive`` returns it until
    the application asks for the next one or returns. All methods run on the server's event loop.
    """

    async def next_message(self, instance: "ApplicationInstance") -> Any:
        """Return the next message for ``instance``. By default it comes from the input queue.

        Args:
            instance: the record of the live instance that asks.

        Cancelled together with the application's ``receive``. Take nothing before the last await.
        """
        queue = cast(InputQueue, instance.input_queue)
        while queue.empty():
            await queue.changed()
        return queue.get_nowait()

    async def acknowledge(self, instance: "ApplicationInstance", message: Any) -> None:
        """The application has finished with ``message``. By default nothing is done.

        Args:
            instance: the record of the instance that received the message.
            message: the message, the same object.

        An exception is raised from the application's next ``receive``, or logged if the application
        has returned.
        """

    async def instance_ended(
        self, instance: "ApplicationInstance", unacknowledged: list[Any]
    ) -> None:
        """The task of ``instance`` has ended. By default nothing is done.

        Args:
            instance: the record; its ``future`` tells how it ended.
            unacknowledged: the message that it had in hand when it failed or was cancelled, if any.
        """


@dataclass(slots=True, eq=False)
class SourcedChannel(Channel):
    """The channel of a server that has a `MessageSource`."""

    source: MessageSource = field(default_factory=MessageSource)
    instance: "ApplicationInstance" = field(init=False)
    _in_hand: list[Any] = field(default_factory=list[Any])
    #: One message at a time is in hand, so the calls of ``receive`` are served one after the other.
    _turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: The task that waits in ``next_message``.
    _reader: "asyncio.Task[Any] | None" = None

    async def receive(self) -> Any:
        async with self._turns:
            if self.state is not LIVE:
                await self._refuse()
            try:
                return await self._receive()
            except BaseException as error:
                await _suspend_after(error)
                raise

    async def _receive(self) -> Any:
        if self._in_hand:
            self.sending += 1  # an instance is not idle meanwhile
            try:
                await self.source.acknowledge(self.instance, self._in_hand[0])
            finally:
                self.sending -= 1
            self._in_hand.clear()
        if self.state is not LIVE:
            raise asyncio.CancelledError
        if self.on_drained is not None and self.queue.empty():
            await self._drained(self.on_drained)
        self._reader = asyncio.current_task()
        try:
            message = await self.source.next_message(self.instance)
        finally:
            self._reader = None
        self._in_hand.append(message)
        self.received = True
        self.active_at = time.monotonic()
        return message

    def finish(self, on_drained: Callable[[], object]) -> None:
        self.on_drained = on_drained
        if self._reader is not None and self.queue.empty():
            on_drained()

    def release(self) -> None:
        if self._reader is not None and self._reader is not self.instance.future:
            self._reader.cancel()  # in a task of its own, which the application may leave behind

    async def instance_ended(self) -> None:
        """Tell the source. A hook of the server, as it were."""
        future = self.instance.future
        async with self._turns:  # a task that the application left behind may be acknowledging
            unacknowledged = list(self._in_hand)
            try:
                if unacknowledged and not future.cancelled() and future.exception() is None:
                    await self.source.acknowledge(self.instance, unacknowledged[0])
                    unacknowledged.clear()
            finally:
                await self.source.instance_ended(self.instance, unacknowledged)


@dataclass(slots=True, eq=False, repr=False)
class ApplicationInstance(MutableMapping[str, Any]):
    """One run of the application for one scope: a value of ``server.application_instances``.

    It is a mapping too, with the keys ``"input_queue"``, ``"future"``, ``"scope"`` and
    ``"last_used"`` of asgiref's dicts. Read it on the server's event loop.
    """

    #: The name that the server's ``handle`` gave the scope.
    scope_id: Hashable
    #: The scope that the application was called with.
    scope: object
    #: The messages that it has not received yet.
    input_queue: "asyncio.Queue[Any]"
    #: Its task.
    future: "asyncio.Future[Any]"
    #: Its ``receive`` and ``send``. An adopted instance has others; this one only holds its state.
    channel: Channel
    #: Whether it was started because its predecessor left messages.
    redelivery: bool = False
    #: The timer that ends it when it is idle for too long, if any.
    idle_timer: asyncio.TimerHandle | None = None
    #: The other keys of an adopted instance.
    extra: dict[str, Any] | None = None

    @property
    def state(self) -> InstanceState:
        """Whether it is live, cancelled or ended."""
        return self.channel.state

    @property
    def last_used(self) -> float:
        """When a message was last received or sent, as ``time.time`` counts."""
        return time.time() - (time.monotonic() - self.channel.active_at)

    def __getitem__(self, key: str) -> Any:
        if key in _KEYS:
            return getattr(self, key)
        if self.extra is not None and key in self.extra:
            return self.extra[key]
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "last_used":
            self.channel.active_at = time.monotonic() - (time.time() - value)
        elif key in _KEYS:
            setattr(self, key, value)
        else:
            self.extra = {**(self.extra or {}), key: value}

    def __delitem__(self, key: str) -> None:
        if self.extra is None or key not in self.extra:
            raise KeyError(f"{key} cannot be deleted from an application instance.")
        del self.extra[key]

    def __iter__(self) -> Iterator[str]:
        yield from _KEYS
        yield from self.extra or ()

    def __len__(self) -> int:
        return len(_KEYS) + len(self.extra or ())

    def copy(self) -> dict[str, Any]:
        return dict(self)

    # Records are identities, not values, unlike other mappings.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<ApplicationInstance of {safe_repr(self.scope_id)}, {self.state.value}>"


def adopted(scope_id: Hashable, details: object) -> ApplicationInstance:
    """Return the record for an entry that a server's own code puts into the table.

    Raises:
        TypeError: if it neither has the shape of asgiref's dict nor is a live record itself.
    """
    if isinstance(details, ApplicationInstance) and details.state is LIVE:
        return details
    values = cast("Mapping[str, Any]", details)
    if not (isinstance(details, Mapping) and {"input_queue", "future"} <= values.keys()):
        raise TypeError(
            f"The application instance of scope {safe_repr(scope_id)} must be a mapping with "
            f"'input_queue' and 'future', not {safe_repr(values)}."
        )
    queue, scope = values["input_queue"], values.get("scope")
    extra = {key: value for key, value in values.items() if key not in _KEYS}
    channel = Channel(queue, scope, None)
    return ApplicationInstance(scope_id, scope, queue, values["future"], channel, extra=extra)


async def run_application(application: SingleCallable, channel: Channel) -> None:
    """Run the application for a scope, after the instance before it for the same scope."""
    leave_hook()
    await channel.begin_turn()
    try:
        scope: Any = channel.scope
        running: Any = application(scope=scope, receive=channel.receive, send=channel.send)
        if not inspect.isawaitable(running):
            raise TypeError(
                f"The application {safe_repr(application)} gave {type(running).__name__!r} when it "
                "was called, which cannot be awaited."
            )
        await running
    except SystemExit as error:
        # A task would throw it into whichever code runs the event loop, and end every scope.
        raise RuntimeError(f"The application exited with {error.code!r}.") from error
    finally:
        channel.end_turn()
