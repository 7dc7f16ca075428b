"""One run of the application for a scope: its record, and the ``receive`` and ``send`` it gets.

    LIVE ── leaves the table ──> CANCELLED ── its task ends ──> ENDED
      └───────────────────── its task ends ───────────────────────┘

A record is LIVE exactly as long as it is in ``server.application_instances``. Only a LIVE instance
receives; a CANCELLED one may still send.

asgiref kept a dict for each instance. Servers read ``details["scope"]`` and ``details["future"]``
from it, and insert dicts of their own: a record answers to those keys, `adopted` makes one.
"""

import asyncio
import enum
import inspect
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping
from typing import Any, NoReturn, Protocol, cast

from asgiref.compatibility import SingleCallable

from ._hooks import safe_repr
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


class Sender(Protocol):
    """The server, as far as an instance needs it."""

    def application_send(self, scope: Any, message: Any) -> Any: ...


class Channel:
    """What one instance receives and sends through.

    It refers neither to the record nor to the task: a traceback leads from an exception to the
    application's frames and to here, and would close a reference cycle.

    Attributes:
        active_at: when a message was last received or sent, in seconds of ``time.monotonic``.
        received: whether a message was ever received.
        sending: how many sends are in progress.
        released: the instance is no longer LIVE; its queue belongs to the next one.
        when_drained: called when the application asks for a message and none is there; set while
            the server shuts down.
        parked: done once the application has ignored its cancellation too often to be waited for.
    """

    __slots__ = (
        "_refusals",
        "_sender",
        "active_at",
        "parked",
        "queue",
        "received",
        "released",
        "scope",
        "sending",
        "when_drained",
    )

    def __init__(self, queue: InputQueue, scope: object, sender: Sender) -> None:
        self.queue: InputQueue = queue
        self.scope: object = scope
        self._sender = sender
        self._refusals = 0
        self.active_at: float = time.monotonic()
        self.received: bool = False
        self.sending: int = 0
        self.released: bool = False
        self.when_drained: Callable[[], object] | None = None
        self.parked: asyncio.Future[None] | None = None

    async def receive(self) -> Any:
        """Wait for the next message of the scope."""
        queue = self.queue
        if self.released:
            await self._refuse()
        while queue.items is None:
            if self.when_drained is not None:
                self.when_drained()
            # Not Queue.get: a second suspended coroutine costs 350 bytes for every idle scope.
            await queue.next_put()
            if self.released:
                raise asyncio.CancelledError
        self.received = True
        self.active_at = time.monotonic()
        return queue.get_nowait()

    async def send(self, message: Any) -> Any:
        """Pass ``message`` to the server's ``application_send``, and wait for that."""
        if self.released:
            await asyncio.sleep(0)  # an application that sends in a loop must not block the others
        self.sending += 1
        self.active_at = time.monotonic()
        try:
            sending = self._sender.application_send(self.scope, message)
            return await sending if inspect.isawaitable(sending) else sending
        except Exception:
            await asyncio.sleep(0)  # likewise for one that tries again at once
            raise
        finally:
            self.sending -= 1
            self.active_at = time.monotonic()

    async def _refuse(self) -> NoReturn:
        """Suspend, then raise. An application that goes on all the same waits longer each time."""
        self._refusals += 1
        if self._refusals > _MAX_REFUSALS:
            self._park()
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0 if self._refusals == 1 else 0.005 * 2**self._refusals)
        if self._refusals > 1:
            raise asyncio.CancelledError  # `except Exception` in a loop does not catch this
        raise RuntimeError(
            f"The application for scope {safe_repr(self.queue.scope_id)} has ended or was "
            "cancelled, and cannot receive any more."
        )

    def _park(self) -> None:
        self.parked = self.parked or asyncio.get_running_loop().create_future()
        if not self.parked.done():
            self.parked.set_result(None)


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
            await queue.next_put()
            if instance.state is not InstanceState.LIVE:
                raise asyncio.CancelledError  # a task that the application left behind
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


class SourcedChannel(Channel):
    """The channel of a server that has a `MessageSource`."""

    __slots__ = ("in_hand", "instance", "source")

    source: MessageSource
    instance: "ApplicationInstance"
    in_hand: list[Any]

    async def receive(self) -> Any:
        if self.released:
            await self._refuse()
        if self.in_hand:
            await self.source.acknowledge(self.instance, self.in_hand[0])
            self.in_hand.clear()
        if self.when_drained is not None and self.queue.empty():
            self.when_drained()
        message = await self.source.next_message(self.instance)
        self.in_hand.append(message)
        self.received = True
        self.active_at = time.monotonic()
        return message


class ApplicationInstance(MutableMapping[str, Any]):
    """One run of the application for one scope: a value of ``server.application_instances``.

    It is a mapping too, with the keys ``"input_queue"``, ``"future"``, ``"scope"`` and
    ``"last_used"`` of asgiref's dicts. Read it on the server's event loop.

    Attributes:
        scope_id: the name that the server's ``handle`` gave the scope.
        scope: the scope that the application was called with.
        input_queue: the messages that it has not received yet.
        future: its task.
        channel: its ``receive`` and ``send``; None for an adopted instance.
        state: live, cancelled or ended.
        on_end: called with the record when its task has ended, if the server watches it.
        redelivery: whether it was started because its predecessor left messages.
        idle_timer: the timer that ends it when it is idle for too long, if any.
        extra: the other keys of an adopted instance.
    """

    __slots__ = (
        "channel",
        "extra",
        "future",
        "idle_timer",
        "input_queue",
        "on_end",
        "redelivery",
        "scope",
        "scope_id",
        "state",
    )

    def __init__(
        self,
        scope_id: Hashable,
        scope: object,
        input_queue: "asyncio.Queue[Any]",
        future: "asyncio.Future[Any]",
        channel: Channel | None,
    ) -> None:
        self.scope_id: Hashable = scope_id
        self.scope: object = scope
        self.input_queue: asyncio.Queue[Any] = input_queue
        self.future: asyncio.Future[Any] = future
        self.channel: Channel | None = channel
        self.state: InstanceState = InstanceState.LIVE
        self.on_end: Callable[[ApplicationInstance], None] | None = None
        self.redelivery: bool = False
        self.idle_timer: asyncio.TimerHandle | None = None
        self.extra: dict[str, Any] | None = None

    def ended(self, _future: "asyncio.Future[Any]") -> None:
        """The done-callback of the task. (A bound method: half the size of a ``partial``.)"""
        if self.on_end is not None:
            self.on_end(self)

    @property
    def last_used(self) -> float:
        """When a message was last received or sent, as ``time.time`` counts."""
        quiet = 0.0 if self.channel is None else time.monotonic() - self.channel.active_at
        return time.time() - quiet

    def __getitem__(self, key: str) -> Any:
        if key in _KEYS:
            return getattr(self, key)
        if self.extra is not None and key in self.extra:
            return self.extra[key]
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "last_used":
            if self.channel is not None:
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

    # Records are identities, not values, unlike other mappings.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<ApplicationInstance of {safe_repr(self.scope_id)}, {self.state.value}>"


def adopted(scope_id: Hashable, details: object) -> ApplicationInstance:
    """Return the record for an entry that a server's own code puts into the table.

    Raises:
        TypeError: if it neither has the shape of asgiref's dict nor is a record itself.
    """
    if isinstance(details, ApplicationInstance):
        return details
    if not (isinstance(details, Mapping) and {"input_queue", "future"} <= details.keys()):
        raise _not_an_instance(scope_id, details)  # pyright: ignore[reportUnknownArgumentType]
    values = cast(Mapping[str, Any], details)
    record = ApplicationInstance(
        scope_id, values.get("scope"), values["input_queue"], values["future"], None
    )
    record.extra = {key: value for key, value in values.items() if key not in _KEYS} or None
    return record


def _not_an_instance(scope_id: Hashable, details: object) -> TypeError:
    return TypeError(
        f"The application instance of scope {safe_repr(scope_id)} must be a mapping with "
        f"'input_queue' and 'future', not {safe_repr(details)}."
    )


async def run_application(
    application: SingleCallable, channel: Channel, predecessors: tuple[ApplicationInstance, ...]
) -> None:
    """Run the application for a scope, after the instances before it for the same scope."""
    for predecessor in predecessors:
        await _wait_for(predecessor)
        del predecessor  # or every instance would keep the ones before it
    del predecessors
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


async def _wait_for(predecessor: ApplicationInstance) -> None:
    """Wait until a cancelled instance has ended, so that no two run for one scope."""
    channel = predecessor.channel
    if channel is None:  # an adopted instance, which shares no queue with others
        return
    channel.parked = channel.parked or asyncio.get_running_loop().create_future()
    for last in (False, True):
        ended, _ = await asyncio.wait(
            {predecessor.future, channel.parked},
            timeout=_PREDECESSOR_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if ended:
            return
        logger.warning(
            "%r was cancelled %g s ago and has not ended; %s",
            predecessor,
            _PREDECESSOR_SECONDS * (1 + last),
            "the next instance starts" if last else "it is cancelled again",
        )
        predecessor.future.cancel()
