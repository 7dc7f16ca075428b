"""The gateway: a `StatelessServer` whose applications run in workers.

It owns partition 0, which holds the events that applications sent. A second gateway waits until it
can own that; only the owner runs ``handle`` and inserts messages.
"""

import asyncio
import contextlib
import logging
import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.server import StatelessServer
from asgiref.sync import iscoroutinefunction, sync_to_async

from ._codec import MAX_SIZE, Encoder, SessionLost, check_scope_id, decode, encode, encoder
from ._database import Database, Session
from ._delivery import Limits, Message
from ._instances import explained
from ._pump import Counts, Item, Pump
from ._worker import process_name, scope_from

logger = logging.getLogger("asgiref.postgres")

#: The partition of events on their way to the gateway.
OUTGOING = 0


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is being delivered by `PostgresGateway.application_send`.

    Attributes:
        id: the number of the event, which is the same if it is delivered again.
        scope_id: its scope.
        redelivered: whether the event, or another one for the same message, may have been
            delivered before.
        attempts: how often the delivery failed.
    """

    id: int
    scope_id: str
    redelivered: bool
    attempts: int


_current: ContextVar[Delivered] = ContextVar("asgiref.postgres.delivery")


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("A gateway runs no applications: its workers do.")


class ScopeQueue:
    """The way to a scope: `put` and `put_nowait`, as a queue of `StatelessServer` has them."""

    def __init__(self, owner: "_GatewayOwner", scope_id: str, scope: bytes) -> None:
        self._owner = owner
        self._scope_id = scope_id
        self._scope = scope

    async def put(self, message: dict[str, Any]) -> None:
        """Take a message into the backlog; wait while that is full.

        Raises:
            TypeError: if the codec cannot carry it.
            ValueError: if it is too large.
        """
        await self._owner.insert(self._owner.item(self._scope_id, self._scope, message))

    def put_nowait(self, message: dict[str, Any]) -> None:
        """Take a message into the backlog.

        Raises:
            asyncio.QueueFull: if the backlog is full; others as `put`.
        """
        self._owner.insert_nowait(self._owner.item(self._scope_id, self._scope, message))


class PostgresGateway(StatelessServer):
    """Base class for the process with the connection to the outside.

    Implement `handle` and `application_send` as for a `StatelessServer`. Scope ids are strings;
    scopes and messages are dicts that the codec can carry. `handle` runs while this gateway is the
    owner; another one waits meanwhile, and takes over when this one ends. After a restart of the
    database `handle` goes on.

    Args:
        database: a `Database`, or its URL.
        limits: how many events are read ahead, and when a failed one becomes a dead letter.
        backlog, backlog_size: how many messages and bytes may wait here for the database.
        shutdown_timeout: seconds at the end for the backlog and for events being delivered.
        codec: ``"json"`` or ``"msgpack"``.
        name: shown by the status.

    Raises:
        CannotStart: if an argument cannot be used.
    """

    def __init__(
        self,
        database: Database | str | None,
        *,
        limits: Limits | None = None,
        backlog: int = 10_000,
        backlog_size: int = 64 << 20,
        shutdown_timeout: float = 10.0,
        codec: str = "json",
        name: str | None = None,
    ) -> None:
        super().__init__(_no_application, shutdown_timeout=shutdown_timeout)
        self.__timeout = shutdown_timeout
        self.__owner = _GatewayOwner(
            self,
            database if isinstance(database, Database) else Database(database),
            limits or Limits(),
            encoder(codec),
            name or process_name("gateway"),
            (backlog, backlog_size),
        )
        self.__pump = self.__owner.pump

    # For subclasses

    def get_or_create_application_instance(self, scope_id: Any, scope: Any) -> Any:
        """Return the queue of a scope, whose application a worker runs.

        Raises:
            TypeError: if ``scope_id`` is not a string, or ``scope`` not a dict of the codec.
            ValueError: if ``scope`` has no ``"type"``, or either is too large.
        """
        owner = self.__owner
        return ScopeQueue(owner, check_scope_id(scope_id), owner.encoded_scope(scope_id, scope))

    async def store(self, scope_id: str, scope: Any, message: Any) -> None:
        """Return once the database has the message: from then on it cannot be lost.

        Raises:
            SessionLost: if the gateway ends before; others as `get_or_create_application_instance`.
        """
        owner = self.__owner
        data = owner.encoded_scope(check_scope_id(scope_id), scope)
        item = owner.item(scope_id, data, message)
        item.stored = asyncio.get_running_loop().create_future()
        await owner.insert(item)
        await item.stored

    @property
    def delivery(self) -> Delivered:
        """What is being delivered; inside of `application_send`.

        Raises:
            LookupError: anywhere else.
        """
        return _current.get()

    @property
    def counts(self) -> Counts:
        """What this gateway has done."""
        return self.__pump.counts

    @property
    def is_connected(self) -> bool:
        """Whether it is the owner now."""
        return self.__pump.may_insert

    # Running

    async def arun(self) -> None:
        """Run until `handle` returns or raises, or a cancellation; first wait to be the owner.

        Raises:
            CannotStart: if the database cannot be used; others as `StatelessServer.arun`.
        """
        owner = self.__owner
        owner.open()
        pump = asyncio.ensure_future(self.__pump.run())
        try:
            while not await self.__serve_as_owner(pump):
                logger.warning("Another gateway has taken over; this one waits")
        finally:
            await self.__end(pump)

    async def __serve_as_owner(self, pump: "asyncio.Future[None]") -> bool:
        """Run `handle` while this gateway is the owner; return whether it is over."""
        owner = self.__owner
        owning = asyncio.ensure_future(owner.is_owner.wait())
        try:
            await _first(owning, pump)
        finally:
            owning.cancel()
        if pump.done():
            pump.result()
            return True
        serving = asyncio.ensure_future(super().arun())
        taken = asyncio.ensure_future(owner.is_taken.wait())
        try:
            await _first(serving, taken, pump)
        finally:
            taken.cancel()
            if not serving.done():
                serving.cancel()
                await asyncio.wait({serving})
        if pump.done():
            pump.result()
        if serving.cancelled():
            return False
        serving.result()
        return True

    async def __end(self, pump: "asyncio.Future[None]") -> None:
        self.__owner.end(asyncio.get_running_loop().time() + self.__timeout)
        with contextlib.suppress(Exception):
            await pump
        await self.__owner.ended(1.0)
        if self.__pump.backlog:
            logger.error("%d message(s) were not stored", self.__pump.backlog)
        self.__pump.forget_items(SessionLost("The gateway has ended."))


class _GatewayOwner:
    """Owns partition 0 for a gateway, and delivers its events: one task for each busy scope."""

    def __init__(
        self,
        gateway: PostgresGateway,
        database: Database,
        limits: Limits,
        codec: Encoder,
        name: str,
        backlog: tuple[int, int],
    ) -> None:
        self._gateway = gateway
        self._codec = codec
        self._max_size = MAX_SIZE
        self.pump = Pump(
            database,
            name,
            limits,
            self,
            to_gateway=False,
            backlog=backlog[0],
            backlog_size=backlog[1],
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._scopes: dict[str, dict[str, Any]] = {}
        self._reader: uuid.UUID | None = None
        self.is_owner = asyncio.Event()
        self.is_taken = asyncio.Event()
        self.is_closed = False
        self._end_at: float | None = None
        self._is_done = False

    def open(self) -> None:
        self.is_owner, self.is_taken = asyncio.Event(), asyncio.Event()
        self.is_closed = self._is_done = False
        self._end_at = self._reader = None
        self.pump.may_insert = False

    def end(self, at: float) -> None:
        self.is_closed = True
        self._end_at = at
        self.pump.wake()

    # What is inserted

    def encoded_scope(self, scope_id: str, scope: Any) -> bytes:
        data = encode(self._codec, "scope", scope, self._max_size)
        if not isinstance(scope.get("type"), str):
            raise ValueError(f"The scope of scope id {scope_id!r} has no 'type': {scope!r}.")
        return data

    def item(self, scope_id: str, scope: bytes, message: Any) -> Item:
        data = encode(self._codec, "message", message, self._max_size)
        return Item(scope_id, data, scope=scope)

    async def insert(self, item: Item) -> None:
        await self.pump.room()
        self.insert_nowait(item)

    def insert_nowait(self, item: Item) -> None:
        if self.is_closed:
            raise SessionLost("The gateway has ended.")
        if self.pump.is_full():
            raise asyncio.QueueFull
        self.pump.insert(item)

    # Owner of the pump

    async def ended(self, seconds: float) -> None:
        """Cancel the deliveries that are left, and wait for them."""
        self.lost()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)

    def is_finished(self) -> bool:
        if self._end_at is not None and self.pump.session is None:
            return not self.pump.backlog or asyncio.get_running_loop().time() >= self._end_at
        return self._is_done

    async def opened(self, session: Session) -> None:
        self._max_size = session.max_size

    def lost(self) -> None:
        self.pump.may_insert = False
        for task in self._tasks.values():
            task.cancel()

    async def tick(self, session: Session) -> None:
        delivery = self.pump.delivery
        if self._end_at is not None:
            await self._drain(session, self._end_at)
        elif OUTGOING in delivery.partitions:
            return
        elif OUTGOING not in (await session.locks()).owners:
            for suspect in (await session.acquire([OUTGOING])).values():
                self._own(session, suspect)
        elif self._reader is not None and await session.reader_of(OUTGOING) != self._reader:
            # Otherwise the lock belongs to a session of this gateway that has not ended yet.
            self._reader = None
            self.is_owner.clear()
            self.is_taken.set()

    def _own(self, session: Session, suspect: int) -> None:
        self.pump.delivery.acquire(OUTGOING, suspect)
        self.pump.may_insert = True
        self._reader = session.reader
        self.is_taken.clear()
        self.is_owner.set()
        self.pump.look()

    async def _drain(self, session: Session, end_at: float) -> None:
        delivery = self.pump.delivery
        if OUTGOING not in delivery.partitions:
            self._is_done = not self.pump.backlog or asyncio.get_running_loop().time() >= end_at
            return
        delivery.begin_release(OUTGOING)
        if asyncio.get_running_loop().time() >= end_at:
            self.lost()
            self._is_done = True
            return
        await self.pump.release(session, lambda _: None)
        self._is_done = not delivery.partitions

    async def ready(self, session: Session, scope_ids: list[str]) -> None:
        new = [each for each in scope_ids if each not in self._tasks]
        missing = [each for each in new if each not in self._scopes]
        if missing:
            stored = await session.scopes(missing)
            if len(self._scopes) > 100_000:
                self._scopes.clear()
            for scope_id in missing:
                self._scopes[scope_id] = _readable_scope(stored.get(scope_id), scope_id)
        for scope_id in new:
            if scope_id not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._deliver_scope(scope_id))
                self._tasks[scope_id] = task
                task.add_done_callback(partial(self._delivered, scope_id))

    def _delivered(self, scope_id: str, _task: "asyncio.Task[None]") -> None:
        del self._tasks[scope_id]
        self.pump.delivery.offer(scope_id)
        self.pump.wake()

    async def _deliver_scope(self, scope_id: str) -> None:
        """Deliver the events of one scope until there are no more."""
        delivery, loop = self.pump.delivery, asyncio.get_running_loop()
        while (message := delivery.next_message(scope_id)) is not None:
            try:
                await self._deliver(message)
            except asyncio.CancelledError:
                delivery.put_back(message)
                raise
            except Exception as error:
                logger.exception("application_send failed for scope %r", scope_id)
                delivery.fail(message, explained(error), loop.time())
            else:
                delivery.acknowledge(message)
            self.pump.wake()

    async def _deliver(self, message: Message) -> None:
        scope = self._scopes.get(message.scope_id) or _readable_scope(None, message.scope_id)
        counts = self.pump.counts
        counts.redelivered += message.redelivered
        token = _current.set(
            Delivered(message.id, message.scope_id, message.redelivered, message.attempts)
        )
        try:
            send: Any = self._gateway.application_send
            if iscoroutinefunction(send):
                await send(scope, decode(message.data))
            else:
                await sync_to_async(send)(scope, decode(message.data))
        finally:
            _current.reset(token)


async def _first(*futures: "asyncio.Future[Any]") -> None:
    """Wait until one of ``futures`` is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _readable_scope(data: bytes | None, scope_id: str) -> dict[str, Any]:
    try:
        return scope_from(data, scope_id)
    except ValueError:
        logger.exception("The scope of %r cannot be read", scope_id)
        return scope_from(None, scope_id)
