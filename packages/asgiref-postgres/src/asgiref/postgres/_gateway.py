"""The gateway: a `StatelessServer` whose applications run in workers.

It owns partition 0, which holds the events that applications sent. A second gateway waits until it
can own partition 0; only the owner runs ``handle``.
"""

import asyncio
import contextlib
import inspect
import logging
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.server import Reconnect, StatelessServer

from ._codec import (
    MAX_SIZE,
    CannotStart,
    Encoder,
    SessionLost,
    check_scope_id,
    decode,
    encode,
    encoder,
    formatted,
)
from ._database import Database, Session
from ._delivery import Limits
from ._monitoring import HealthEndpoint, monitored
from ._outbox import Item, Outbox
from ._pump import Counts, Pump
from ._schema import OUTGOING
from ._worker import process_name, scope_from

logger = logging.getLogger("asgiref.postgres")

#: Seconds to clean up after the shutdown timeout.
_CLEANUP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """The event that `PostgresGateway.application_send` is handling.

    Attributes:
        id: the number of the event; a redelivery has the same number.
        scope_id: the id of the event's scope.
        redelivered: whether this event, or another one for the same message, may have been
            delivered before.
        attempts: how many times the delivery failed.
    """

    id: int
    scope_id: str
    redelivered: bool
    attempts: int


_current: ContextVar[Delivered] = ContextVar("asgiref.postgres.delivery")


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("A gateway does not run applications; its workers do.")


class ScopeQueue:
    """The input queue of a scope: `put` and `put_nowait`, like the queue of a `StatelessServer`.

    Args:
        owner: internal; `PostgresGateway.get_or_create_application_instance` creates the queue.
        scope_id: the scope's id.
        scope: the encoded scope.
    """

    def __init__(self, owner: "_GatewayOwner", scope_id: str, scope: bytes) -> None:
        self._owner = owner
        self._scope_id = scope_id
        self._scope = scope

    async def put(self, message: dict[str, Any]) -> None:
        """Add a message to the backlog; wait while the backlog is full.

        Args:
            message: a dict that the codec can encode.

        Raises:
            TypeError: if the codec cannot encode it.
            ValueError: if it is too large.
            SessionLost: if the gateway has stopped.
        """
        await self._owner.insert(self._owner.item(self._scope_id, self._scope, message))

    def put_nowait(self, message: dict[str, Any]) -> None:
        """Add a message to the backlog. Any thread may call this.

        Args:
            message: a dict that the codec can encode.

        Raises:
            asyncio.QueueFull: if the backlog is full; also any error that `put` raises.
        """
        self._owner.insert_nowait(self._owner.item(self._scope_id, self._scope, message))


class PostgresGateway(StatelessServer):
    """Base class for the process that holds the connection to the outside.

    Implement `handle` and `application_send` as for a `StatelessServer`. If `application_send`
    raises, the event is delivered again, up to ``limits.attempts`` times, with growing delays; then
    it becomes a dead letter. Scope ids are strings; scopes and messages are dicts that the codec
    can encode. `handle` runs while this gateway is the owner; a second gateway waits, and takes
    over when this one stops. `handle` continues while the database restarts.

    Args:
        database: a `Database`, or its URL.
        limits: how many events to read ahead, and when a failed event becomes a dead letter.
        backlog: the maximum number of messages waiting here for the database.
        backlog_size: the maximum total size of these messages, in bytes.
        shutdown_timeout: seconds at shutdown to store the backlog and finish deliveries.
        reconnect: as for a `StatelessServer`.
        codec: ``"json"`` or ``"msgpack"``.
        name: the name that the status shows.
        health_port: answer HTTP requests on this port: 200 while connected to the database, even
            while waiting to become the owner; otherwise 503.
        health_address: the address of the health port, by default every address of the host.

    Raises:
        CannotStart: if an argument cannot be used.

    >>> class Chat(PostgresGateway):
    ...     async def handle(self):
    ...         await self.store("ada", {"type": "chat"}, {"type": "said", "text": "hello"})
    ...
    ...     async def application_send(self, scope, message):
    ...         print(self.delivery.scope_id, message["text"])
    >>> Chat("postgresql://localhost/chat").run()  # doctest: +SKIP
    """

    def __init__(
        self,
        database: Database | str | None,
        *,
        limits: Limits | None = None,
        backlog: int = 10_000,
        backlog_size: int = 64 << 20,
        shutdown_timeout: float = 10.0,
        reconnect: Reconnect | None = None,
        codec: str = "json",
        name: str | None = None,
        health_port: int | None = None,
        health_address: str | None = None,
    ) -> None:
        super().__init__(_no_application, shutdown_timeout=shutdown_timeout, reconnect=reconnect)
        if backlog < 1 or backlog_size < 1:
            raise CannotStart("The backlog must hold at least one message and one byte.")
        self.__timeout = shutdown_timeout
        self.__endpoint = HealthEndpoint(health_address, health_port)
        owner = self.__owner = _GatewayOwner(self, encoder(codec))
        outbox = Outbox(backlog, backlog_size, is_numbered=True)
        owner.pump = Pump(database, name or process_name("gateway"), limits, owner, outbox)
        self.__pump = owner.pump

    # For subclasses

    def get_or_create_application_instance(self, scope_id: Any, scope: Any) -> Any:
        """Return the queue of a scope, whose application a worker runs. Any thread may call this.

        Args:
            scope_id: a string that identifies the scope.
            scope: the scope that the application is called with, a dict with a ``"type"``.

        Raises:
            TypeError: if ``scope_id`` is not a string, or the codec cannot encode ``scope``.
            ValueError: if ``scope`` has no ``"type"``, or either is too large.
        """
        owner = self.__owner
        return ScopeQueue(owner, check_scope_id(scope_id), owner.encoded_scope(scope_id, scope))

    async def store(self, scope_id: str, scope: Any, message: Any) -> None:
        """Store a message; return once it is committed and can no longer be lost.

        A cancelled call may still store the message.

        Args:
            scope_id: a string that identifies the scope.
            scope: the scope that the application is called with, a dict with a ``"type"``.
            message: a dict that the codec can encode.

        Raises:
            SessionLost: if the gateway stops first; also any error that
                `get_or_create_application_instance` raises.
        """
        owner = self.__owner
        data = owner.encoded_scope(check_scope_id(scope_id), scope)
        item = owner.item(scope_id, data, message)
        item.stored = asyncio.get_running_loop().create_future()
        await owner.insert(item)
        await item.stored

    @property
    def delivery(self) -> Delivered:
        """The event that `application_send` is handling.

        Raises:
            LookupError: outside `application_send`.
        """
        return _current.get()

    @property
    def counts(self) -> Counts:
        """The work that this gateway has done."""
        return self.__pump.counts

    @property
    def is_connected(self) -> bool:
        """Whether the gateway has a session and is the owner now."""
        return OUTGOING in self.__pump.delivery.partitions

    # Running

    async def arun(self) -> None:
        """Wait to become the owner, then run until `handle` returns or raises, or until cancelled.

        Raises:
            CannotStart: if the database or the port cannot be used; also any error that
                `StatelessServer.arun` raises.
        """
        owner = self.__owner
        owner.open()
        async with monitored(self.__pump, self.__endpoint):
            pump = asyncio.ensure_future(self.__pump.run())
            try:
                while not await self.__serve(pump):
                    logger.warning("Another gateway has taken over; this one waits")
            finally:
                await self.__end(pump)

    async def __serve(self, pump: "asyncio.Future[None]") -> bool:
        """Run `handle` while this gateway is the owner; return whether the gateway has finished."""
        serving = self.__owner.serving = asyncio.ensure_future(self.__handle_as_owner())
        try:
            await asyncio.wait({serving, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            while not serving.done():
                try:
                    await asyncio.wait({serving})
                except asyncio.CancelledError:  # shorten the shutdown
                    serving.cancel()
        finished = [each for each in (serving, pump) if _has_result(each)]
        if not finished and self.__owner.serving is not serving:
            return False
        (*finished, serving)[0].result()  # without a result, `handle` has cancelled itself
        return True

    async def __handle_as_owner(self) -> None:
        await self.__owner.is_owner.wait()
        await super().arun()

    async def __end(self, pump: "asyncio.Future[None]") -> None:
        owner, outbox = self.__owner, self.__pump.outbox
        owner.end()
        try:
            if outbox or self.__pump.session is not None:
                await asyncio.wait({pump}, timeout=self.__timeout + _CLEANUP_SECONDS)
        finally:
            pump.cancel()
            if outbox:
                logger.error("%d message(s) were not stored", len(outbox))
            outbox.forget(SessionLost("The gateway has stopped."))
            await owner.ended(pump, _CLEANUP_SECONDS)


class _GatewayOwner:
    """Owns partition 0 for a gateway, and delivers its events in one task for each busy scope."""

    pump: Pump

    def __init__(self, gateway: PostgresGateway, codec: Encoder) -> None:
        self._gateway = gateway
        self._codec = codec
        self._max_size = MAX_SIZE
        self._task_of: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._reset()

    def _reset(self) -> None:
        self.is_owner: asyncio.Event = asyncio.Event()
        self.serving: asyncio.Future[None] | None = None
        self._is_ending = self._is_done = False

    def open(self) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self.pump.outbox.is_closed = False
        self._reset()

    def end(self) -> None:
        self._is_ending = True
        self.pump.outbox.is_closed = True
        self.pump.tick_soon()

    # Messages to insert

    def encoded_scope(self, scope_id: str, scope: Any) -> bytes:
        data = encode(self._codec, "scope", scope, self._max_size)
        if not isinstance(scope.get("type"), str):
            raise ValueError(f"The scope with the id {scope_id!r} has no 'type': {scope!r}.")
        return data

    def item(self, scope_id: str, scope: bytes, message: Any) -> Item:
        data = encode(self._codec, "message", message, self._max_size)
        return Item(scope_id, data, scope=scope)

    async def insert(self, item: Item) -> None:
        await self.pump.outbox.put(item)
        self._wake()

    def insert_nowait(self, item: Item) -> None:
        self.pump.outbox.add(item)
        self._wake()

    def _wake(self) -> None:
        if self._loop is None or self._thread == threading.get_ident():
            self.pump.wake()
        else:
            with contextlib.suppress(RuntimeError):  # a closed loop; `add` refuses the next message
                self._loop.call_soon_threadsafe(self.pump.wake)

    # Owner of the pump

    async def ended(self, pump: "asyncio.Future[None]", seconds: float) -> None:
        """Cancel the remaining deliveries, and wait for them and for the pump."""
        self.lost()
        await asyncio.wait([*self._task_of.values(), pump], timeout=seconds)
        if pump.done() and not pump.cancelled():
            pump.exception()  # already raised, or no caller is left to raise it in

    def is_finished(self) -> bool:
        return self._is_done

    async def opened(self, session: Session) -> None:
        self._max_size = session.max_size

    def lost(self) -> None:
        for task in self._task_of.values():
            task.cancel()

    async def tick(self, session: Session) -> None:
        """Try to become the owner; store the backlog once no former session can be storing it."""
        outbox = self.pump.outbox
        if not outbox.is_confirmed and (number := await session.last_batch()) is not None:
            outbox.confirm(number)
        if self._is_ending:
            await self._drain(session)
        elif OUTGOING not in self.pump.delivery.partitions:
            await self._become_owner(session)

    async def _become_owner(self, session: Session) -> None:
        if await self.pump.acquire(session, [OUTGOING]):
            self.is_owner.set()
        elif self.is_owner.is_set() and self.serving is not None:
            query = "SELECT reader FROM partitions WHERE partition = $1"
            # If this gateway is the reader, its own former session has not released the lock yet.
            if (await session.fetch(query, OUTGOING))[0][0] != session.reader:
                self.is_owner.clear()
                self.serving.cancel()
                self.serving = None

    async def _drain(self, session: Session) -> None:
        """Wait until the backlog is stored and the deliveries are finished."""
        owned, outbox = self.pump.delivery.partitions, self.pump.outbox
        if (outgoing := owned.get(OUTGOING)) is not None:
            outgoing.is_releasing = True
            if not outgoing.in_hand and not outbox:
                await self.pump.release(session, [OUTGOING])
        self._is_done = not owned and not outbox

    async def ready(self, session: Session, scope_ids: list[str]) -> None:
        new = [each for each in scope_ids if each not in self._task_of]
        found = {each: self.pump.outbox.known_scope(each) for each in new}
        if unknown := [each for each, scope in found.items() if scope is None]:
            found |= await session.scopes(unknown)
        for scope_id in new:
            if scope_id not in self._task_of:
                delivering = self._deliver(scope_id, scope_from(found[scope_id], scope_id))
                task = asyncio.get_running_loop().create_task(delivering)
                self._task_of[scope_id] = task
                task.add_done_callback(partial(self._delivered, scope_id))

    def _delivered(self, scope_id: str, _task: "asyncio.Task[None]") -> None:
        del self._task_of[scope_id]
        self.pump.delivery.offer(scope_id)
        self.pump.wake()

    async def _deliver(self, scope_id: str, scope: dict[str, Any]) -> None:
        """Deliver the events of one scope until there are no more."""
        delivery, task = self.pump.delivery, asyncio.current_task()
        assert task is not None
        # `application_send` may suppress the cancellation, but the events are no longer owned.
        while not task.cancelling() and (message := delivery.next_message(scope_id)) is not None:
            _current.set(Delivered(message.id, scope_id, message.redelivered, message.attempts))
            self.pump.counts.redelivered += message.redelivered
            try:
                sending: Any = self._gateway.application_send(scope, decode(message.data))
                if inspect.isawaitable(sending):
                    await sending
            except (Exception, asyncio.CancelledError) as error:
                if task.cancelling():
                    delivery.put_back(message)
                    raise
                logger.error("application_send failed for scope %r", scope_id, exc_info=error)
                delivery.fail(message, formatted(error), asyncio.get_running_loop().time())
            else:
                delivery.acknowledge(message)
            self.pump.wake()
            if self._is_ending:
                self.pump.tick_soon()


def _has_result(future: "asyncio.Future[None]") -> bool:
    return future.done() and not future.cancelled()
