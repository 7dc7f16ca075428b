"""The application's instances: one task for each scope that has messages.

The boundary to `asgiref.server`: what a source of messages is asked here are the three questions of
its extension point (the next message, the acknowledgement, the end of an instance). Invariant: two
instances of one scope never run at once; a cancelled one is awaited before the next one starts.
"""

import asyncio
import logging
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from asgiref.compatibility import guarantee_single_callable

from ._delivery import Message

logger = logging.getLogger("asgiref.postgres")

_MAX_REASON = 8000


class Source(Protocol):
    """Where instances get messages, where they acknowledge them, and where they send."""

    def next_message(self, scope_id: str) -> Message | None: ...
    def acknowledge(self, message: Message) -> None: ...
    def failed(self, message: Message, reason: str) -> None: ...
    def put_back(self, message: Message) -> None: ...
    def decoded(self, message: Message) -> dict[str, Any] | None: ...
    async def send(self, scope_id: str, event: Any, in_hand: Message | None) -> None: ...
    def instance_ended(self, scope_id: str) -> None: ...


class Instance:
    """One run of the application for one scope."""

    def __init__(self, scope_id: str, partition: int, source: Source) -> None:
        self.scope_id = scope_id
        self.partition = partition
        self._source = source
        self.in_hand: Message | None = None
        self.has_received = False
        self.is_cancelled = False
        self.last_used = asyncio.get_running_loop().time()
        self.task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def receive(self) -> dict[str, Any]:
        """Acknowledge the message in hand, and wait for the next one."""
        handled, self.in_hand = self.in_hand, None
        if handled is not None:
            self._source.acknowledge(handled)
        while True:
            if self.is_cancelled:
                await asyncio.sleep(0)  # an application that catches this must not block the loop
                raise asyncio.CancelledError
            message = self._source.next_message(self.scope_id)
            if message is not None:
                decoded = self._source.decoded(message)
                if decoded is not None:
                    self.in_hand = message
                    self.has_received = True
                    self.last_used = asyncio.get_running_loop().time()
                    return decoded
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def send(self, event: Any) -> None:
        """Send to the gateway; what is sent while a message is in hand is stored with it."""
        if self.is_cancelled:
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        self.last_used = asyncio.get_running_loop().time()
        await self._source.send(self.scope_id, event, self.in_hand)

    def wake(self) -> None:
        """Let ``receive`` look for a message."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()


class Instances:
    """The instances by scope, the least recently used first."""

    def __init__(
        self,
        application: Any,
        source: Source,
        *,
        max_applications: int,
        idle_timeout: float | None,
    ) -> None:
        self._application: Callable[..., Any] = guarantee_single_callable(application)
        self._source = source
        self._max = max_applications
        self._idle_timeout = idle_timeout
        self._table: OrderedDict[str, Instance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def wake(self, scope_id: str) -> bool:
        """Tell a scope's instance that a message is there; return whether there is one."""
        instance = self._table.get(scope_id)
        if instance is None:
            return False
        self._table.move_to_end(scope_id)
        instance.wake()
        return True

    def start(self, scope_id: str, partition: int, scope: dict[str, Any]) -> None:
        """Start an instance for a scope that has none."""
        if len(self._table) >= self._max:
            self._evict()
        instance = Instance(scope_id, partition, self._source)
        self._table[scope_id] = instance
        instance.task = asyncio.get_running_loop().create_task(self._run(instance, scope))
        instance.task.add_done_callback(lambda task: self._ended(instance, task))

    async def _run(self, instance: Instance, scope: dict[str, Any]) -> None:
        if instance.is_cancelled:
            raise asyncio.CancelledError
        try:
            await self._application(scope, instance.receive, instance.send)
        except SystemExit as error:
            # A task would throw it into whichever code runs the event loop, and end every scope.
            raise RuntimeError(f"The application exited with {error.code!r}.") from error

    def _ended(self, instance: Instance, task: "asyncio.Task[None]") -> None:
        del self._table[instance.scope_id]
        message, instance.in_hand = instance.in_hand, None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("The application failed for scope %r", instance.scope_id, exc_info=error)
        if instance.is_cancelled or task.cancelled():
            if message is not None:
                self._source.put_back(message)
        elif error is not None:
            self._failed(instance, message, explained(error))
        elif message is not None:
            self._source.acknowledge(message)
        elif not instance.has_received:
            self._failed(instance, None, "The application returned without receiving the message.")
        self._source.instance_ended(instance.scope_id)

    def _failed(self, instance: Instance, message: Message | None, reason: str) -> None:
        if message is None and not instance.has_received:
            # Otherwise an application that cannot even start would be started for ever.
            message = self._source.next_message(instance.scope_id)
        if message is not None:
            self._source.failed(message, reason)

    def _evict(self) -> None:
        for instance in self._table.values():
            if instance.in_hand is None and not instance.is_cancelled:
                instance.cancel()
                return

    def cancel_idle(self) -> None:
        """Cancel the instances that have been idle for too long."""
        if self._idle_timeout is None:
            return
        since = asyncio.get_running_loop().time() - self._idle_timeout
        for instance in self._table.values():
            if instance.in_hand is None and instance.last_used < since:
                instance.cancel()

    def cancel(self, partition: int | None = None) -> None:
        """Cancel the instances of one partition, or all."""
        for instance in list(self._table.values()):
            if partition is None or instance.partition == partition:
                instance.cancel()

    async def ended(self, seconds: float) -> None:
        """Cancel all, and wait until they have ended, but not longer than ``seconds``."""
        self.cancel()
        tasks = [each.task for each in self._table.values() if each.task is not None]
        if tasks:
            _, going_on = await asyncio.wait(tasks, timeout=seconds)
            if going_on:
                logger.error("%d instance(s) ignore their cancellation", len(going_on))


def explained(error: BaseException) -> str:
    """Return the traceback of ``error``, shortened at its start."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        text = f"{type(error).__name__}, whose text cannot be read"
    return text if len(text) <= _MAX_REASON else "... " + text[-_MAX_REASON:]
