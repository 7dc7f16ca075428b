"""The loop that makes transactions: what is to be written and the next read, as one.

Each session has a delivery core of its own. When the session is lost, everything that it held is
forgotten; the table has it. Only messages that a gateway was given stay here until they are stored.

Senders notify a reader only while it is marked as asleep. A sender that did not see the mark was in
flight when the mark was committed; so the reader goes on polling until those transactions are over.
"""

import asyncio
import enum
import logging
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ._codec import CannotStart, PostgresServerError
from ._database import Backoff, Database, Outgoing, Session
from ._delivery import Delivery, Limits

logger = logging.getLogger("asgiref.postgres")

#: Seconds between two looks at which partitions are free, and the longest silence of a session.
TICK = 0.4
#: Seconds between two looks for sessions that are stuck.
_CHECK = 2.0
#: Seconds to collect more work before the next transaction.
_LINGER = 0.001
#: Seconds between two reads of a reader that is awake, and without rows until it goes to sleep.
_POLL, _AWAKE = 0.003, 0.05
#: After so many reads with rows, in short succession, a reader stays awake.
_STREAK = 4
#: Seconds between two reads while transactions are in flight that may not have seen the mark.
_SETTLING = (0.005, 0.1)
#: A transaction of a gateway inserts at most so many messages and bytes.
_MAX_BATCH, _MAX_BATCH_SIZE = 500, 4 << 20


class Owner(Protocol):
    """The worker or gateway that a pump works for."""

    async def opened(self, session: Session) -> None: ...
    async def tick(self, session: Session) -> None: ...
    async def ready(self, session: Session, scope_ids: list[str]) -> None: ...
    def lost(self) -> None: ...
    def is_finished(self) -> bool: ...


class Sleep(enum.Enum):
    """Whether senders must notify the reader."""

    AWAKE = "polls"
    SETTLING = "marked as asleep, but some senders may not have seen it"
    ASLEEP = "waits for a notification"


@dataclass(slots=True)
class Item:
    """A message to be inserted."""

    scope_id: str
    data: bytes
    redelivered: bool = False
    scope: bytes | None = None
    stored: "asyncio.Future[None] | None" = None


@dataclass(slots=True)
class Counts:
    """What a pump has done, for the status and metrics."""

    transactions: int = 0
    read: int = 0
    redelivered: int = 0
    sent: int = 0
    acknowledged: int = 0
    dead: int = 0
    lost_sessions: int = 0


@dataclass(slots=True)
class _Batch:
    items: list[Item]
    outgoing: Outgoing
    scopes: dict[str, bytes] = field(default_factory=dict[str, bytes])


class Pump:
    """Transactions for one worker or gateway, over as many sessions as it takes.

    Args:
        database: where to connect to.
        name: shown by PostgreSQL and by the status.
        limits: how much is held at once.
        owner: who is told.
        to_gateway: whether messages go to the gateway, or to their scopes' partitions.
        backlog, backlog_size: how many messages and bytes may wait to be inserted.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        limits: Limits,
        owner: Owner,
        *,
        to_gateway: bool,
        backlog: int,
        backlog_size: int,
    ) -> None:
        self._database = database
        self._name = name
        self._limits = limits
        self._owner = owner
        self._to_gateway = to_gateway
        self._max_items, self._max_size = backlog, backlog_size
        self.delivery = Delivery(limits)
        self.counts = Counts()
        self.session: Session | None = None
        self._items: deque[Item] = deque()
        self._size = 0
        self._batch: _Batch | None = None
        self._batches = 0
        self._producer = None if to_gateway else uuid.uuid4()
        self._known_scopes: dict[str, bytes] = {}
        self._room: list[asyncio.Future[None]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._is_woken = False
        self.may_insert = to_gateway
        self._reset_sleep()

    def _reset_sleep(self) -> None:
        self._sleep = Sleep.AWAKE
        self._settled_at = 0
        self._settling_delay = _SETTLING[0]
        self._last_found = 0.0
        self._streak = 0
        self._next_poll = 0.0
        self._is_notified = True

    # Called by the owner

    def wake(self) -> None:
        """Look whether there is something to do."""
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def look(self) -> None:
        """Read with the next transaction, which is due at once."""
        self._is_notified = True
        self.wake()

    async def flush(self, session: Session) -> None:
        """Make transactions until nothing waits to be written."""
        while self.delivery.has_writes() or self._items or self._batch is not None:
            await self.exchange(session)

    async def release(self, session: Session, leave: Callable[[int], object]) -> None:
        """Give up the partitions that are being released and have nothing in hand.

        ``leave`` is called with each of them.
        """
        if not self.delivery.idle_releases():
            return
        await self.flush(session)
        suspects: dict[int, int] = {}
        for partition in self.delivery.idle_releases():
            leave(partition)
            suspects[partition] = self.delivery.drop(partition)
        await session.release(suspects)

    @property
    def backlog(self) -> int:
        """How many messages wait to be inserted."""
        return len(self._items) + (len(self._batch.items) if self._batch else 0)

    def is_full(self) -> bool:
        return self.backlog >= self._max_items or self._size >= self._max_size

    async def room(self) -> None:
        """Wait until a message may be inserted."""
        while self.is_full():
            waiter = asyncio.get_running_loop().create_future()
            self._room.append(waiter)
            await waiter

    def insert(self, item: Item) -> None:
        """Insert a message with the next transaction."""
        self._items.append(item)
        self._size += len(item.data)
        self.wake()

    def forget_items(self, error: PostgresServerError) -> None:
        """Do not insert what waits; tell those who wait for it."""
        items = [*(self._batch.items if self._batch else ()), *self._items]
        self._batch = None
        self._items.clear()
        self._size = 0
        for item in items:
            if item.stored is not None and not item.stored.done():
                item.stored.set_exception(error)
        self._wake_room()

    def _wake_room(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Sessions

    async def run(self) -> None:
        """Open sessions and make transactions until the owner is finished.

        Raises:
            CannotStart: if the first session cannot be opened, and a retry is no use.
        """
        backoff = Backoff()
        was_open = is_down = False
        while not self._owner.is_finished():
            session = Session(self._database, self._name, self._notified)
            try:
                await session.open()
                if is_down:
                    logger.info("The database is back")
                was_open, is_down = True, False
                backoff.reset()
                await self._serve(session)
                return
            except PostgresServerError as error:
                if isinstance(error, CannotStart) and not was_open:
                    raise
                if not is_down:
                    logger.warning("The database is away: %s. Trying again until it is back", error)
                    self.counts.lost_sessions += was_open
                is_down = True
            finally:
                self.session = None
                session.abort()
                self.delivery = Delivery(self._limits)
                self._reset_sleep()
                self._owner.lost()
            await backoff.wait()

    def _notified(self, _partition: int) -> None:
        self._is_notified = True
        self.wake()

    async def _serve(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        await self._owner.opened(session)
        self.session = session
        next_tick = next_check = 0.0
        while not self._owner.is_finished():
            now = loop.time()
            if now >= next_tick:
                await self._owner.tick(session)
                if now >= next_check:
                    await session.end_stuck_sessions()
                    next_check = now + _CHECK
                next_tick = loop.time() + TICK
            self._is_woken = False
            await self._give_out(session)
            if self._is_due(loop.time()):
                await self.exchange(session)
                await self._give_out(session)
                await asyncio.sleep(_LINGER)
            else:
                await self._wait(next_tick)
        await session.close()

    def _is_due(self, now: float) -> bool:
        return (
            self._is_notified
            or now >= self._next_poll
            or self.delivery.has_writes()
            or (self.may_insert and (bool(self._items) or self._batch is not None))
        )

    async def _wait(self, until: float) -> None:
        if self._is_woken:
            return
        loop = asyncio.get_running_loop()
        times = (until, self._next_poll, self.delivery.next_time() or until)
        self._waiter = waiter = loop.create_future()
        timer = loop.call_at(min(times), self.wake)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def _give_out(self, session: Session) -> None:
        ready = self.delivery.take_ready(asyncio.get_running_loop().time())
        if ready:
            await self._owner.ready(session, ready)

    # One transaction

    async def exchange(self, session: Session) -> None:
        """Write what waits, and read as much as there is room for."""
        delivery, now = self.delivery, asyncio.get_running_loop().time()
        writes, read = delivery.take_writes(), delivery.next_read()
        batch = self._next_batch()
        asleep = self._next_mark(now)
        self._is_notified = False
        rows, xmin, own = await session.exchange(
            writes,
            batch.outgoing if batch is not None else _NOTHING,
            read,
            to_gateway=self._to_gateway,
            asleep=asleep,
        )
        delivery.written(writes)
        if batch is not None:
            self._stored(batch)
        counts = self.counts
        counts.transactions += 1
        counts.acknowledged += len(writes.done)
        counts.dead += len(writes.dead)
        counts.read += len(rows)
        more = read is not None and delivery.rows_read(read, rows, xmin, own)
        self._plan_next(bool(rows), more, asleep, xmin, own)

    def _next_batch(self) -> _Batch | None:
        """Return the batch to insert: again the last one, if its commit was not seen."""
        if self._batch is None and self._items and self.may_insert:
            items: list[Item] = []
            size = 0
            # A worker's transaction acknowledges messages, so it must hold all of their answers.
            while self._items and (
                self._to_gateway or (len(items) < _MAX_BATCH and size < _MAX_BATCH_SIZE)
            ):
                items.append(self._items.popleft())
                size += len(items[-1].data)
            self._batches += 1
            self._batch = self._new_batch(items)
        return self._batch if self.may_insert else None

    def _new_batch(self, items: list[Item]) -> _Batch:
        scopes: dict[str, bytes] = {}
        for item in items:
            known = self._known_scopes.get(item.scope_id)
            if item.scope is not None and item.scope != known:
                scopes[item.scope_id] = item.scope
        return _Batch(
            items,
            Outgoing(
                [item.scope_id for item in items],
                [item.data for item in items],
                [item.redelivered for item in items],
                scopes,
                self._producer,
                self._batches,
            ),
            scopes,
        )

    def _stored(self, batch: _Batch) -> None:
        self._batch = None
        self._size -= sum(len(item.data) for item in batch.items)
        self.counts.sent += len(batch.items)
        if len(self._known_scopes) > 100_000:
            self._known_scopes.clear()
        self._known_scopes.update(batch.scopes)
        for item in batch.items:
            if item.stored is not None and not item.stored.done():
                item.stored.set_result(None)
        self._wake_room()

    # Sleep

    def _next_mark(self, now: float) -> bool | None:
        """Return the mark that the transaction has to write, or None for no change."""
        if self._sleep is Sleep.AWAKE:
            return True if now - self._last_found > _AWAKE else None
        if self._sleep is Sleep.SETTLING and not self._settled_at:
            return True  # again: this transaction's id is above those that may have missed the mark
        # A single message does not wake it for good: that would cost two more writes.
        return False if self._streak >= _STREAK else None

    def _plan_next(self, found: bool, more: bool, asleep: bool | None, xmin: int, own: int) -> None:
        now = asyncio.get_running_loop().time()
        if asleep:
            self._settled_at = own if self._sleep is Sleep.SETTLING else 0
            self._sleep = Sleep.SETTLING
            self._settling_delay = _SETTLING[0]
        elif asleep is False:
            self._sleep = Sleep.AWAKE
        elif self._sleep is Sleep.SETTLING and xmin >= self._settled_at:
            self._sleep = Sleep.ASLEEP
        if found:
            self._streak = self._streak + 1 if now - self._last_found < _AWAKE else 1
            self._last_found = now
        if self._sleep is Sleep.AWAKE:
            self._next_poll = now + _POLL
        elif self._sleep is Sleep.SETTLING:
            self._next_poll = now + self._settling_delay
            self._settling_delay = min(self._settling_delay * 2, _SETTLING[1])
        else:
            self._next_poll = now + 1.0  # in case that a notification was lost
        if more:
            self._next_poll = now


_NOTHING = Outgoing([], [], [], {})
