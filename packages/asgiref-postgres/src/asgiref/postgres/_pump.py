"""The transaction loop: each transaction writes all pending changes and reads the next messages.

Each session has its own delivery core. When the session is lost, the pump forgets everything that
core held, because the table still has it.

Senders notify a reader only while it is marked as asleep. A sender can miss the mark if its
transaction was in flight when the mark was committed. The reader therefore keeps polling, at
intervals that double each time, so such a message waits for the reader no longer than the sender's
transaction took.
"""

import asyncio
import logging
import random
import uuid
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from ._codec import CannotStart, LoopBlocked, PostgresServerError
from ._database import Database, Session
from ._delivery import Delivery, Limits, Message
from ._outbox import Outbox

logger = logging.getLogger("asgiref.postgres")

#: Seconds between checks for free partitions, and the longest that a session stays silent.
TICK = 0.4
#: Seconds between checks for stuck sessions.
_CHECK = 2.0
#: The first and the longest delay between attempts to connect, in seconds.
_BACKOFF = (0.05, 2.0)


class PumpClient(Protocol):
    """The worker or gateway that a pump works for."""

    async def opened(self, session: Session) -> None: ...
    async def tick(self, session: Session) -> None: ...
    async def ready(self, session: Session, scope_ids: list[str]) -> None: ...
    def lost(self) -> None: ...
    def is_finished(self) -> bool: ...


@dataclass(slots=True)
class Counts:
    """The work that a process has done since it started, for the status and metrics."""

    transactions: int = 0
    read: int = 0
    redelivered: int = 0
    sent: int = 0
    acknowledged: int = 0
    dead: int = 0
    lost_sessions: int = 0


class Sleep:
    """Decides when a reader polls and when senders must notify it. Time comes only from ``now``."""

    #: The interval between reads doubles after each read without rows. In seconds: the first
    #: interval, the longest one while awake, and the longest one while asleep.
    POLL, LONGEST_AWAKE, LONGEST = 0.0005, 0.004, 1.0
    #: Seconds from the first read without rows until the reader sleeps.
    AWAKE = 0.02

    def __init__(self) -> None:
        self.next_poll = self._idle_since = 0.0
        self._delay = self.POLL
        self._is_asleep = False

    def mark(self, now: float) -> bool | None:
        """Return the mark that the next transaction must write, or None for no change."""
        is_idle = now - self._idle_since > self.AWAKE
        return None if is_idle == self._is_asleep else is_idle

    def has_read(self, now: float, mark: bool | None, *, found: bool, more: bool) -> None:
        """Record a committed transaction that wrote ``mark``; ``more`` if rows certainly remain."""
        self._is_asleep = self._is_asleep if mark is None else mark
        # Not the time since the last row: a busy machine may take that long for a transaction.
        self._idle_since = inf if found else min(self._idle_since, now)
        # A sender may have missed a new mark, so poll as often as after the last row.
        longest = self.LONGEST if self._is_asleep else self.LONGEST_AWAKE
        self._delay = self.POLL if found or mark else min(self._delay * 2, longest)
        self.next_poll = now if more else now + self._delay


class Pump:
    """Runs the transactions of one worker or gateway, and opens a new session when one is lost.

    Args:
        database: the database to connect to.
        name: the name that PostgreSQL and the status show.
        limits: how much the pump holds at once.
        owner: the worker or gateway to notify.
        outbox: the messages to insert.

    Attributes:
        reader: identifies this process as the owner of partitions.
        former: the partitions that the last session owned.
    """

    def __init__(
        self,
        database: Database | str | None,
        name: str,
        limits: Limits | None,
        owner: PumpClient,
        outbox: Outbox,
    ) -> None:
        self._database = database if isinstance(database, Database) else Database(database)
        self.name: str = name
        self._limits: Limits = limits or Limits()
        self._owner = owner
        self.outbox: Outbox = outbox
        self.reader: uuid.UUID = uuid.uuid4()
        self.former: set[int] = set()
        self.counts: Counts = Counts()
        self._has_worked = self._is_database_down = False
        self._woken: asyncio.Event = asyncio.Event()
        self._reset()

    def _reset(self) -> None:
        self.session: Session | None = None
        self.delivery: Delivery = Delivery(self._limits)
        self._sleep = Sleep()
        self._is_notified = True
        self._next_tick = 0.0

    # Called by the owner

    def wake(self) -> None:
        """Make the loop check for work now."""
        self._woken.set()

    def read_soon(self) -> None:
        """Make the next transaction due at once, and read with it."""
        self._is_notified = True
        self.wake()

    def tick_soon(self) -> None:
        """Call the owner's ``tick`` at once."""
        self._next_tick = 0.0
        self.wake()

    async def acquire(self, session: Session, partitions: list[int]) -> bool:
        """Try to acquire ``partitions``; return whether this session now owns one of them."""
        acquired = await session.acquire(partitions)
        for number, suspect, mark, _former in acquired:
            self.delivery.acquire(number, suspect, mark)
        if acquired:
            _log_acquired(acquired, len(self.delivery.partitions))
            # Acquiring resets the reader's asleep mark in the database.
            self._sleep = Sleep()
            self.read_soon()
        return bool(acquired)

    async def release(self, session: Session, partitions: list[int]) -> None:
        """Release partitions that are marked for release and have no message in progress."""
        # None of their messages is in progress, so one transaction writes all that remains.
        await self.exchange(session)
        await session.release({each: self.delivery.drop(each) for each in partitions})

    # Sessions

    async def run(self) -> None:
        """Open sessions and run transactions until the owner is finished.

        Raises:
            CannotStart: if no session has worked yet, and retrying cannot help.
        """
        delay, longest = _BACKOFF
        self._woken = asyncio.Event()
        while not self._owner.is_finished():
            session = Session(self._database, self.name, self.reader, self._notified)
            try:
                await session.open()
                await self._serve(session)
                return
            except PostgresServerError as error:
                if isinstance(error, CannotStart) and not self._has_worked:
                    raise
                if not self._is_database_down:
                    _log_loss(error)
                    self.counts.lost_sessions += self._has_worked
                    self._is_database_down, delay = True, _BACKOFF[0]
            finally:
                session.abort()
                self.former = set(self.delivery.partitions) or self.former
                self._reset()
                self.outbox.session_lost()
                self._owner.lost()
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, longest)

    def _has_answered(self) -> None:
        """Record a commit. A connection alone proves little: the disk may be full, for example."""
        if self._is_database_down:
            logger.info("The database is back")
        elif not self._has_worked:
            logger.info("Connected to the database")
        self._has_worked, self._is_database_down = True, False

    def _notified(self, partition: str) -> None:
        if partition in map(str, self.delivery.partitions):
            self.read_soon()

    async def _serve(self, session: Session) -> None:
        now, next_check = asyncio.get_running_loop().time, 0.0
        await self._owner.opened(session)
        self.session = session
        while not self._owner.is_finished():
            if now() >= self._next_tick:
                self._next_tick = now() + TICK
                await self._owner.tick(session)
                if now() >= next_check:
                    await session.end_stuck_sessions()
                    next_check = now() + _CHECK
            self._woken.clear()
            await self._give_out(session)
            if self._is_due(now()):
                await self.exchange(session)
                await self._give_out(session)
                # Let the applications run, so that the next transaction has their answers. A longer
                # wait would only add latency: a busy server makes the batches larger by itself.
                await asyncio.sleep(0)
            else:
                await self._wait()
        await session.close()

    def _is_due(self, now: float) -> bool:
        return (
            self._is_notified
            or now >= self._sleep.next_poll
            or self.delivery.has_writes()
            or self.outbox.has_batch()
        )

    async def _wait(self) -> None:
        until = min(self._next_tick, self._sleep.next_poll, self.delivery.next_time())
        timer = asyncio.get_running_loop().call_at(until, self.wake)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    async def _give_out(self, session: Session) -> None:
        ready = self.delivery.take_ready(asyncio.get_running_loop().time())
        if ready:
            await self._owner.ready(session, ready)

    # One transaction

    async def exchange(self, session: Session) -> None:
        """Write all pending changes, and read as many messages as there is room for."""
        delivery, counts, now = self.delivery, self.counts, asyncio.get_running_loop().time
        writes, read, mark = delivery.take_writes(), delivery.next_read(), self._sleep.mark(now())
        batch = self.outbox.next_batch()
        self._is_notified = False
        rows, xmin, own = await session.exchange(writes, batch, read, asleep=mark)
        more = delivery.rows_read(read, rows, xmin, own)
        delivery.written(writes)
        self._sleep.has_read(now(), mark, found=bool(rows), more=more)
        for dead in writes.dead:
            _log_dead_letter(dead)
        counts.transactions += 1
        counts.acknowledged += len(writes.done)
        counts.dead += len(writes.dead)
        counts.sent += len(batch.items)
        counts.read += len(rows)
        self.outbox.stored(batch.number)
        self._has_answered()


def _log_acquired(acquired: list[Any], owned: int) -> None:
    text = "Acquired %d partition(s); this process owns %d now"
    logger.info(text, len(acquired), owned)
    taken: dict[str, list[int]] = {}
    for number, *_, former in acquired:
        if former is not None:
            taken.setdefault(former.removeprefix("asgiref.postgres "), []).append(number)
    for former, numbers in taken.items():
        listed = ", ".join(map(str, sorted(numbers)))
        logger.warning(
            "Took over partitions %s from %s, which had not released them", listed, former
        )


def _log_loss(error: PostgresServerError) -> None:
    if isinstance(error, LoopBlocked):
        logger.warning(
            "The event loop was blocked or the process suspended for %s seconds, so PostgreSQL "
            "ended the session. Look for blocking code in the application. Reconnecting",
            error,
        )
    else:
        logger.warning("The database is unavailable: %s. Retrying until it is back", error)


def _log_dead_letter(message: Message) -> None:
    reason = (message.reason.strip().splitlines() or [""])[-1]
    text = "Message %d of scope %r is now a dead letter (attempts: %d): %s"
    logger.warning(text, message.id, message.scope_id, message.attempts, reason)
