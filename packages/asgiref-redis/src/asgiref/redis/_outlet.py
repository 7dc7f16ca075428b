"""The events of one partition on their way from its outgoing stream to ``application_send``.

They are delivered one after the other, and each is acknowledged when ``application_send`` has
returned. A gateway that is killed between the two leaves an event that is delivered again, under
the same id, and marked. An event that is in the stream twice (see `_scripts`) is marked the second
time: the events of a group of workers are numbered, and the numbers only grow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ._client import Call
from ._codec import Malformed, decode
from ._delivery import Counts, Delivery, current
from ._entries import EntryId, entry_id
from ._explained import explained
from ._gate import Gate, GateHost, Identity
from ._keys import PartitionKeys
from ._packing import unpacked_entries
from ._scripts import BURY, TAKE, TIDY
from ._settings import BATCH

logger = logging.getLogger("asgiref.redis")

#: How many events of one partition may be read and not delivered.
AHEAD = 256


Deliver = Callable[[dict[str, Any], dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Letter:
    """An event that is to become a dead letter."""

    id: str
    attempts: int
    reason: str
    trace: str


class Outlet(Gate):
    """Delivers.

    Args:
        doubt: the last event that may have been delivered before; None if the gate has not been
            opened yet, which will tell.
        deliver: gets a scope and a message.
        counts: where to count.
    """

    def __init__(
        self,
        keys: PartitionKeys,
        identity: Identity,
        host: GateHost,
        doubt: EntryId | None,
        deliver: Deliver,
        counts: Counts,
    ) -> None:
        super().__init__(keys, identity, host, is_open=doubt is not None)
        self._doubt = doubt
        self._deliver = deliver
        self._counts = counts
        self._more = True
        self._events: deque[tuple[str, dict[bytes, bytes]]] = deque()
        self._ids: list[str] = []
        self._letters: deque[_Letter] = deque()
        self._sent = 0
        self._asked = 0
        self._burying = False
        self._last = "0-0"
        self._latest: dict[bytes, EntryId] = {}  # by group, the number of its last event
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    def look(self) -> None:
        """There may be something new."""
        self._more = True
        self._host.mark(self)

    def tidy_call(self) -> Call:
        """Deletes what was delivered."""
        return Call(TIDY, (self.keys.gate, self.keys.outgoing), self._identity.words)

    async def end(self) -> None:
        """Deliver nothing more; what is being delivered is cancelled."""
        self._ending = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _heard_before(self) -> None:
        """A failover has lost that events were read: they may have been delivered, too."""
        self._doubt = max(self._doubt or (0, 0), entry_id(self._last))

    def _opened(self, last: bytes) -> None:
        self._latest.clear()  # Redis may have lost everything: then the numbers begin anew
        if self._doubt is None:
            self._doubt = entry_id(last)

    def unanswered(self) -> None:
        super().unanswered()
        self._more = True

    def _call(self) -> Call | None:
        self._burying = bool(self._letters)
        if self._burying:
            return self._bury_call(self._letters[0])
        room = AHEAD - len(self._events) - len(self._ids)
        self._asked = max(0, min(BATCH, room)) if self._more else 0
        if not self._asked and not self._ids:
            return None
        self._more = self._more and not self._asked
        ids = self._ids[: 2 * BATCH]
        self._sent = len(ids)
        return Call(
            TAKE,
            (self.keys.gate, self.keys.outgoing),
            (*self._identity.words, self._asked, self._last, *ids),
        )

    def _bury_call(self, letter: _Letter) -> Call:
        limit = self._identity.settings.dead_limit
        return Call(
            BURY,
            (self.keys.gate, self.keys.outgoing, self.keys.dead),
            (
                *self._identity.words,
                *(letter.id, letter.attempts, limit, letter.reason, letter.trace),
            ),
        )

    def _done(self, answer: Any) -> None:
        if self._burying:
            self._letters.popleft()
            self._host.mark(self)
            return
        data, lost = answer
        entries = unpacked_entries(data)
        del self._ids[: self._sent]
        if entries:
            if entry_id(entries[0][0]) <= entry_id(self._last):
                self._heard_before()
            self._more = self._more or bool(lost) or len(entries) >= self._asked
            self._last = entries[-1][0]
            self._events.extend(entries)
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._work())
        if self._ids or self._more or self._letters:
            self._host.mark(self)

    async def _work(self) -> None:
        try:
            while self._events:
                id, fields = self._events[0]
                await self._deliver_one(id, fields)
                self._events.popleft()
                self._host.mark(self)
        finally:
            self._task = None

    async def _deliver_one(self, id: str, fields: dict[bytes, bytes]) -> None:
        limit = self._identity.settings.max_size
        try:
            scope, message = decode(fields.get(b"s"), limit), decode(fields.get(b"m"), limit)
            is_second = self._is_second(fields)
        except Malformed as error:
            logger.error("Event %s of partition %d is malformed: %s", id, self.keys.number, error)
            self._bury(_Letter(id, 0, f"malformed: {error}", ""))
            return
        again = is_second or fields.get(b"r") == b"1" or entry_id(id) <= (self._doubt or (0, 0))
        name = fields.get(b"d", b"").decode(errors="replace")
        for attempt in range(1, self._identity.settings.failures + 1):
            # In the context of this task, which delivers nothing else now.
            current.set(Delivery(name, again or attempt > 1, self.keys.number))
            letter = await self._attempt(id, attempt, scope, message)
            if letter is None:
                self._ids.append(id)
                self._counts.delivered += 1
                self._counts.redelivered += again or attempt > 1
            elif attempt < self._identity.settings.failures:
                await asyncio.sleep(self._identity.settings.retry_delay * 2 ** min(attempt - 1, 6))
                continue
            else:
                self._counts.dead += 1
                self._bury(letter)
            return

    def _is_second(self, fields: dict[bytes, bytes]) -> bool:
        """Whether this event has come before. Raises Malformed."""
        try:
            number = entry_id(fields.get(b"n", b"0-0"))
        except ValueError:
            raise Malformed("its number is none") from None
        group = fields.get(b"d", b"").partition(b"/")[0]
        latest = self._latest.get(group, (0, 0))
        if number > latest:
            self._latest[group] = number
        return (0, 0) < number <= latest

    async def _attempt(
        self, id: str, attempt: int, scope: dict[str, Any], message: dict[str, Any]
    ) -> _Letter | None:
        """Deliver; give what tells of a failure, to which a cancellation by nobody here belongs."""
        try:
            await self._deliver(scope, message)
        except (Exception, asyncio.CancelledError) as error:
            if self._ending:
                raise
            return self._failed(id, attempt, error)
        return None

    def _failed(self, id: str, attempt: int, error: BaseException) -> _Letter:
        self._counts.failed += 1
        reason, trace = explained(error)
        logger.error("application_send failed (%d): %s", attempt, reason, exc_info=error)
        return _Letter(id, attempt, reason, trace)

    def _bury(self, letter: _Letter) -> None:
        self._letters.append(letter)
        self._host.mark(self)
