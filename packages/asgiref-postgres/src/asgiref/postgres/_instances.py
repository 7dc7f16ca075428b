"""The application's instances in a worker: a `StatelessServer` whose messages come from the pump.

Invariant: an instance is live exactly as long as it has a record here. When the worker ends an
instance (it releases the partition, loses the session or evicts an idle instance), it removes the
record first, so later calls from that instance have no effect.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from asgiref.server import ApplicationInstance, MessageSource, StatelessServer

from ._codec import MAX_SIZE, CannotStart, Encoder, decode, encode, formatted
from ._delivery import Message
from ._outbox import Item
from ._pump import Pump

#: Seconds to wait for a partition's cancelled instances before another worker may own it.
_CLEANUP_SECONDS = 5.0


@dataclass(slots=True)
class _Record:
    """The part of an instance's state that this module owns."""

    partition: int
    message: Message | None = None
    has_received: bool = False
    #: Wakes the task that waits for a message, so that it checks again.
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def is_idle(self) -> bool:
        return self.has_received and self.message is None


class WorkerInstances(StatelessServer, MessageSource):
    """Runs an application for the scopes of the partitions that a worker owns.

    Args:
        application: the application.
        pump: the source of messages.
        serve: called once, as the server's ``handle``.
        codec: encodes sent events.
        options: as for a `StatelessServer`.
    """

    def __init__(
        self,
        application: Any,
        pump: Pump,
        serve: Callable[[], Awaitable[None]],
        codec: Encoder,
        **options: Any,
    ) -> None:
        try:
            super().__init__(application, source=self, **options)
        except (TypeError, ValueError) as error:
            raise CannotStart(str(error)) from error
        self._pump = pump
        self._serve = serve
        self._codec = codec
        self.max_size = MAX_SIZE
        self._records: dict[ApplicationInstance, _Record] = {}
        #: The partition of each cancelled task, and the time by which it must have cleaned up.
        self._ending: dict[asyncio.Future[Any], tuple[int, float]] = {}

    async def handle(self) -> None:
        await self._serve()

    # Called by the worker

    def wake(self, scope_id: str) -> bool:
        """Wake the live instance of a scope; return whether there is one."""
        instance = self.application_instances.get(scope_id)
        if instance is None or instance.future.done():
            return False
        if (record := self._records.get(instance)) is not None:
            record.woken.set()
        # Looking it up makes it the most recently used.
        self.get_or_create_application_instance(scope_id, instance["scope"])
        return True

    def start(self, scope_id: str, partition: int, scope: dict[str, Any]) -> None:
        """Start an instance for a scope that has none; it waits for its cancelled predecessor."""
        self.get_or_create_application_instance(scope_id, scope)
        self._records[self.application_instances[scope_id]] = _Record(partition)

    def end(self, partition: int | None = None) -> None:
        """Cancel one partition's instances, or all, and put back the messages in progress."""
        for instance, record in list(self._records.items()):
            if partition is None or record.partition == partition:
                self._end(instance)

    def have_ended(self, partition: int) -> bool:
        """Whether every instance of ``partition`` has ended or has used up its time to clean up."""
        now = asyncio.get_running_loop().time()
        return all(number != partition or now >= end for number, end in self._ending.values())

    async def ended(self, seconds: float) -> None:
        """Cancel all instances, and give them ``seconds`` to clean up."""
        self.end()
        if self._ending:
            await asyncio.wait(self._ending, timeout=seconds)

    # The end of instances

    def _end(self, instance: ApplicationInstance) -> None:
        record = self._records.pop(instance)
        record.woken.set()
        if record.message is not None:
            self._pump.delivery.put_back(record.message)
        # It may have been woken for a message that it has not received yet.
        self._pump.delivery.offer(cast(str, instance.scope_id))
        self._pump.wake()
        now = asyncio.get_running_loop().time()
        self._ending[instance.future] = (record.partition, now + _CLEANUP_SECONDS)
        instance.future.add_done_callback(self._has_ended)
        if self.application_instances.get(instance.scope_id) is instance:
            super().delete_application_instance(instance.scope_id)

    def _has_ended(self, future: "asyncio.Future[Any]") -> None:
        del self._ending[future]
        self._pump.tick_soon()

    def delete_application_instance(self, scope_id: Any) -> None:
        """Cancel an instance if it has received a message before and has none in progress."""
        instance = self.application_instances[scope_id]
        if (record := self._records.get(instance)) is not None and record.is_idle():
            self._end(instance)

    def delete_oldest_application_instance(self) -> None:
        for instance in self.application_instances.values():
            if (record := self._records.get(instance)) is not None and record.is_idle():
                self._end(instance)
                return

    # Called for the application

    async def next_message(self, instance: ApplicationInstance) -> dict[str, Any]:
        """Return the next message of the instance's scope, as the application sees it."""
        while (record := self._records.get(instance)) is not None:
            message = self._pump.delivery.next_message(cast(str, instance.scope_id))
            if message is None:
                record.woken.clear()
                await record.woken.wait()
                continue
            record.has_received = True  # even if it cannot be read; otherwise it is never idle
            if (event := self._decoded(message)) is not None:
                record.message = message
                return event
        raise asyncio.CancelledError

    def _decoded(self, message: Message) -> dict[str, Any] | None:
        """Return the message as a dict; make it a dead letter if it cannot be read."""
        try:
            event = decode(message.data)
        except ValueError as error:
            self._pump.delivery.discard(message, f"The message cannot be read: {error}")
            self._pump.wake()
            return None
        if message.redelivered:
            event["redelivered"] = True
            self._pump.counts.redelivered += 1
        return event

    async def acknowledge(self, instance: ApplicationInstance, message: Any) -> None:
        """Acknowledge the instance's current message, which the application has handled."""
        record = self._records.get(instance)
        if record is not None and record.message is not None:
            self._pump.delivery.acknowledge(record.message)
            record.message = None
            self._pump.wake()

    async def instance_ended(
        self, instance: ApplicationInstance, unacknowledged: list[Any]
    ) -> None:
        """Handle the end of an instance, unless the worker ended it and removed its record."""
        record = self._records.pop(instance, None)
        if record is None:
            return
        record.woken.set()
        delivery, message = self._pump.delivery, record.message
        if message is None and not record.has_received:
            # Otherwise the worker would endlessly restart an application that cannot even start.
            message = delivery.next_message(cast(str, instance.scope_id))
        if message is not None:
            reason = _reason(instance.future)
            delivery.fail(message, reason, asyncio.get_running_loop().time())
        delivery.offer(cast(str, instance.scope_id))
        self._pump.wake()

    async def application_send(self, scope: Any, message: Any) -> None:
        """Store an event, together with the acknowledgement if a message is in progress."""
        outbox = self._pump.outbox
        await self._live_record(scope)
        data = encode(self._codec, "message", message, self.max_size)
        await outbox.room()
        in_hand = (await self._live_record(scope)).message
        redelivered = in_hand is not None and in_hand.redelivered
        item = Item(scope["scope_id"], data, redelivered)
        if in_hand is None:
            # No redelivery would repeat this event, so the application must wait for the commit.
            item.stored = asyncio.get_running_loop().create_future()
        outbox.add(item)
        self._pump.wake()
        if item.stored is not None:
            await item.stored

    async def _live_record(self, scope: Any) -> _Record:
        instance = self.application_instances.get(scope["scope_id"])
        record = None if instance is None else self._records.get(instance)
        if instance is None or instance.scope is not scope or record is None:
            await asyncio.sleep(0)  # an application that catches this must not block the loop
            raise asyncio.CancelledError
        return record


def _reason(future: "asyncio.Future[Any]") -> str:
    if future.cancelled():
        return "The application cancelled itself."
    error = future.exception()
    if error is None:
        return "The application returned without receiving the message."
    return formatted(error)
