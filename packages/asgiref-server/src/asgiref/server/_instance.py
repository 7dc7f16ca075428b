"""One run of the application for a scope: its record, ``receive`` and ``send``.

    LIVE ── leaves the table ──> CANCELLED ── its task ends ──> ENDED
      └───────────────────── its task ends ───────────────────────┘

A record is LIVE exactly while it is in ``server.application_instances``. Only a LIVE instance
receives; a CANCELLED one may still send. The module ``_table`` makes these transitions, at the
latest in the last step of the instance's task (`Channel.end_turn`).

asgiref keeps a dict for each instance. Servers read ``details["scope"]`` and ``details["future"]``
from it, and insert their own dicts. So a record supports those keys, and `adopted` turns such a
dict into a record.
"""

import asyncio
import contextlib
import enum
import inspect
import time
from collections.abc import Awaitable, Hashable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

from asgiref.compatibility import SingleCallable

from ._hooks import leave_hook
from ._loop import logger, safe_repr
from ._queue import InputQueue

_KEYS = ("input_queue", "future", "scope", "last_used")
#: Seconds that a new instance waits, twice, for a cancelled instance to clean up.
_PREDECESSOR_SECONDS = 10.0
#: After this many refused calls to ``receive``, the next call waits until it is cancelled.
_MAX_REFUSALS = 5
#: After this many messages, ``receive`` lets other tasks run, even if more messages wait: a scope
#: that answers each message with one to itself would never suspend.
_MESSAGES_IN_A_ROW = 100


class InstanceState(enum.Enum):
    LIVE = "live"
    CANCELLED = "cancelled"
    ENDED = "ended"


LIVE, CANCELLED, ENDED = InstanceState.LIVE, InstanceState.CANCELLED, InstanceState.ENDED


@dataclass(slots=True, eq=False)
class Channel:
    """The ``receive`` and ``send`` of one instance.

    A channel refers neither to the record nor, once the application has ended, to the task. A
    traceback refers to the application's frames and through them to the channel, so such a
    reference would close a cycle.
    """

    queue: InputQueue
    scope: Any
    #: The `StatelessServer`, whose module imports this one; None for an adopted instance.
    _server: Any
    state: InstanceState = LIVE
    #: When a message was last received or sent, as a value of ``time.monotonic``.
    active_at: float = field(default_factory=lambda: time.monotonic())
    #: How many messages were received, and pauses made between them.
    received: int = 0
    #: How many sends are in progress.
    sending: int = 0
    _turn: "asyncio.Future[Any] | None" = None
    _refusals: int = 0

    async def receive(self) -> Any:
        """Wait for the next message of the scope."""
        queue = self.queue
        if self.state is not LIVE or self.received % _MESSAGES_IN_A_ROW == _MESSAGES_IN_A_ROW - 1:
            await self._pause_or_refuse()
        while queue.items is None:
            # Not Queue.get: a second suspended coroutine costs 350 bytes for every idle scope.
            await queue.changed()
            if self.state is not LIVE:
                raise asyncio.CancelledError
        self.received += 1
        self.active_at = time.monotonic()
        return queue.get_nowait()

    async def send(self, message: Any) -> Any:
        """Pass ``message`` to the server's ``application_send`` and wait for it."""
        if self.state is not LIVE:
            await asyncio.sleep(0)  # an application that sends in a loop must not block the others
        self.sending += 1
        self.active_at = time.monotonic()
        try:
            sending = self._server.application_send(self.scope, message)
            return await sending if inspect.isawaitable(sending) else sending
        except BaseException as error:
            await _suspend_after(error)  # likewise if it retries immediately
            raise
        finally:
            self.sending -= 1
            self.active_at = time.monotonic()

    def is_drained(self) -> bool:
        """Whether the application is waiting for a message, and none is queued."""
        return self._server is None or (self.queue.is_drained() and not self.sending)

    def release(self) -> None:
        """End the waiting calls to ``receive``, because the instance is no longer live."""
        self.queue.wake()

    async def _pause_or_refuse(self) -> None:
        """Suspend, then raise if the instance is not live.

        If the application keeps calling, it is suspended until it is cancelled.
        """
        self.received += self.state is LIVE  # now, because a timeout may cancel the pause
        await asyncio.sleep(0)
        if self.state is LIVE:
            return
        self._refusals += 1
        if self._refusals == 1:
            raise RuntimeError(
                f"The application for scope {safe_repr(self.queue.scope_id)} has ended or was "
                "cancelled, and cannot receive any more."
            )
        if self._refusals > _MAX_REFUSALS:
            if asyncio.current_task() is self._turn:  # not a task beside one that is cleaning up
                self.end_turn()  # the next instance need not wait for this one
            await asyncio.get_running_loop().create_future()
        raise asyncio.CancelledError  # an `except Exception` in a loop does not catch this

    # One instance at a time runs for a scope

    def _has_predecessor(self) -> bool:
        """Whether a hook or a cancelled instance of the scope has not ended."""
        return self.queue.runner is not None or self.queue in self.queue.instances.hooks.tasks

    async def begin_turn(self) -> None:
        """Wait, up to a limit, for the scope's hooks and the end of its cancelled instance."""
        if self._has_predecessor():  # rare, and a timeout would slow down every new scope
            await self._wait_for_predecessor()
        self._turn = self.queue.runner = asyncio.current_task()

    async def _wait_for_predecessor(self) -> None:
        queue = self.queue
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PREDECESSOR_SECONDS):
                    while self._has_predecessor():
                        await queue.changed()
                return
            text = (
                "Scope %s is still waiting for a hook or a cancelled instance; cancelling it again"
            )
            logger.warning(text, safe_repr(queue.scope_id))
            if queue.runner is not None:
                queue.runner.cancel()

    def end_turn(self) -> None:
        """End the instance's turn, if it has started, and let the next one run."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self.queue.instances.leave(turn)
            if self.queue.runner is turn:
                self.queue.runner = None
                self.queue.wake()


async def _suspend_after(error: BaseException) -> None:
    """Let other tasks run before ``error`` reaches an application that may ignore it in a loop."""
    if not isinstance(error, (GeneratorExit, KeyboardInterrupt)):
        await asyncio.sleep(0)


class MessageSource:
    """Supplies instances with messages and acknowledges them.

    To connect a message broker or a database, subclass this and pass an object to
    `StatelessServer`. An instance holds one message at a time: from the moment ``receive`` returns
    it until the application asks for the next one or returns. All methods run on the server's event
    loop.
    """

    async def next_message(self, instance: "ApplicationInstance") -> Any:
        """Return the next message for ``instance``; by default, from the input queue.

        Args:
            instance: the record of the live instance that asks.

        This is cancelled together with the application's ``receive``. Do not take a message
        until after the last await; otherwise a cancellation loses it.
        """
        return await instance.input_queue.get()

    async def acknowledge(self, instance: "ApplicationInstance", message: Any) -> None:
        """Acknowledge ``message``, which the application has finished. By default, do nothing.

        Args:
            instance: the record of the instance that received the message.
            message: the object that ``next_message`` returned.

        An exception is raised in the ``receive`` call that follows, or logged if the application
        has returned. In that case, this is cancelled after ten seconds.
        """

    async def instance_ended(
        self, instance: "ApplicationInstance", unacknowledged: list[Any]
    ) -> None:
        """React to the end of ``instance``'s task. By default, do nothing.

        The next instance of the scope waits for this. After ten seconds, this is cancelled.

        Args:
            instance: the record; its ``future`` shows how it ended.
            unacknowledged: the message that it held when it failed or was cancelled, if any.
        """


@dataclass(slots=True, eq=False)
class SourcedChannel(Channel):
    """The channel of a server that has a `MessageSource`."""

    source: MessageSource = field(default_factory=MessageSource)
    instance: "ApplicationInstance" = field(init=False)
    _in_hand: list[Any] = field(default_factory=list[Any])
    #: An instance holds one message at a time, so calls to ``receive`` run one after the other.
    _turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: The task that is waiting in ``next_message``.
    _reader: "asyncio.Task[Any] | None" = None

    async def receive(self) -> Any:
        if self.state is not LIVE or self.received % _MESSAGES_IN_A_ROW == _MESSAGES_IN_A_ROW - 1:
            await self._pause_or_refuse()  # may wait forever, so not while it holds the lock
        async with self._turns:
            try:
                if self.state is LIVE:
                    await self._acknowledge()
                if self.state is not LIVE:
                    raise asyncio.CancelledError
                self._reader = asyncio.current_task()
                message = await self.source.next_message(self.instance)
            except BaseException as error:
                await _suspend_after(error)
                raise
            finally:
                self._reader = None
            self._in_hand.append(message)
            self.received += 1
            self.active_at = time.monotonic()
            return message

    async def _acknowledge(self) -> None:
        if self._in_hand:
            self.sending += 1  # so that the instance does not count as idle
            try:
                await self.source.acknowledge(self.instance, self._in_hand[0])
                self._in_hand.clear()
            finally:
                self.sending -= 1
                self.active_at = time.monotonic()

    def is_drained(self) -> bool:
        return self.queue.empty() and self._reader is not None

    def release(self) -> None:
        if self._reader is not None and self._reader is not self.instance.future:
            self._reader.cancel()  # a separate task that may outlive the application

    async def acknowledge_last(self) -> None:
        """Acknowledge the message that the application held when it returned."""
        future = self.instance.future
        async with self._turns:  # a task that the application left behind may be acknowledging
            if not future.cancelled() and future.exception() is None:
                await self._acknowledge()

    def instance_ended(self) -> Awaitable[None]:
        """Tell the source that the instance ended."""
        return self.source.instance_ended(self.instance, [*self._in_hand])


@dataclass(slots=True, eq=False, repr=False)
class ApplicationInstance(MutableMapping[str, Any]):
    """One run of the application for one scope: a value of ``server.application_instances``.

    It is also a mapping, with the keys ``"input_queue"``, ``"future"``, ``"scope"`` and
    ``"last_used"`` from asgiref's dicts. Read it on the server's event loop.
    """

    #: The id that the server's ``handle`` gave the scope.
    scope_id: Hashable
    #: The scope that the application was called with.
    scope: object
    #: The messages that the application has not yet received.
    input_queue: "asyncio.Queue[Any]"
    #: The task of the instance.
    future: "asyncio.Future[Any]"
    #: Its ``receive`` and ``send``. For an adopted instance, this only holds the state.
    channel: Channel
    #: The `Instances` of the server, whose module imports this one.
    _instances: Any
    #: Whether it was started for messages that its predecessor left unread.
    redelivery: bool = False
    #: The timer that checks whether it is idle, if there is an idle timeout.
    idle_timer: asyncio.TimerHandle | None = None
    #: The additional keys of an adopted instance.
    extra: dict[str, Any] | None = None
    #: The time that `last_used` was derived from, and its value.
    _last_used: tuple[float, float] = field(default=(-1.0, 0.0), init=False)

    @property
    def state(self) -> InstanceState:
        """Whether it is live, cancelled or ended."""
        return self.channel.state

    @property
    def last_used(self) -> float:
        """When a message was last received or sent, as a value of ``time.time``."""
        active_at = self.channel.active_at
        if self._last_used[0] != active_at:  # otherwise the same value again: servers compare them
            self._last_used = active_at, time.time() - (time.monotonic() - active_at)
        return self._last_used[1]

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key) if key in _KEYS else (self.extra or {})[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "last_used":
            self.channel.active_at = time.monotonic() - (time.time() - value)
            self._last_used = self.channel.active_at, value
            self._instances.last_used_assigned = True
        elif key in _KEYS:
            setattr(self, key, value)
        else:
            self.extra = {**(self.extra or {}), key: value}

    def __delitem__(self, key: str) -> None:
        del (self.extra or {})[key]

    def __iter__(self) -> Iterator[str]:
        return iter((*_KEYS, *(self.extra or ())))

    def __len__(self) -> int:
        return len(_KEYS) + len(self.extra or ())

    def copy(self) -> dict[str, Any]:
        return dict(self)

    # Unlike other mappings, records compare by identity.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<ApplicationInstance of {safe_repr(self.scope_id)}, {self.state.value}>"


def adopted(scope_id: Hashable, details: object, instances: Any) -> ApplicationInstance:
    """Return the record for an entry that a server's own code puts into the table.

    Raises:
        TypeError: if the entry is neither a live record nor a mapping like asgiref's dict.
    """
    if isinstance(details, ApplicationInstance) and details.state is LIVE:
        return details
    values = cast("Mapping[str, Any]", details)
    if not (isinstance(details, Mapping) and {"input_queue", "future"} <= values.keys()):
        text = f"must be a mapping with 'input_queue' and 'future', not {safe_repr(values)}."
        raise TypeError(f"The application instance of scope {safe_repr(scope_id)} {text}")
    queue, scope = values["input_queue"], values.get("scope")
    channel = Channel(queue, scope, None)
    instance = ApplicationInstance(scope_id, scope, queue, values["future"], channel, instances)
    for key in values.keys() - {"input_queue", "future", "scope"}:
        instance[key] = values[key]
    return instance


async def run_application(application: SingleCallable, channel: Channel) -> None:
    """Run the application for a scope, once the previous instance for that scope has ended."""
    leave_hook()
    await channel.begin_turn()
    try:
        await application(scope=channel.scope, receive=channel.receive, send=channel.send)
    except SystemExit as error:
        # A task would raise it in the code that runs the event loop, and end every scope.
        raise RuntimeError(f"The application exited with {error.code!r}.") from error
    finally:
        channel.end_turn()
