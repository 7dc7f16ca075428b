"""Both directions of one partition at the gateway: `Inlet` appends, `Outlet` delivers.

Both write under the gateway's token, which is lower than that of any gateway after this one: when
Redis says that the gate is another's, there is one, or a failover has lost that this one ever came.
So the gate is opened once more, which only succeeds in the second case.

What the inlet appends is numbered, and stays here until Redis has said up to which number it has
everything: what is sent again after a lost answer is appended once.

The outlet delivers the events of its partition one after the other, and acknowledges each when
``application_send`` has returned. A gateway that is killed between the two leaves an event that is
delivered again, under the same id, and marked.
"""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ._client import Call, Refused
from ._codec import Malformed, decode
from ._entries import EntryId, entry_id
from ._errors import ConnectionTaken
from ._keys import PartitionKeys
from ._packing import packed, unpacked_entries
from ._pump import Station
from ._scripts import APPEND, BURY, FENCED, OPEN, TAKE, TIDY
from ._settings import BATCH

logger = logging.getLogger("asgiref.redis")

#: Seconds until a full stream, or a full Redis, is tried again.
FULL_DELAY = 0.1
#: How many events of one partition may be read and not delivered.
AHEAD = 256
TRACE_SIZE = 16_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """Which event is being delivered.

    Attributes:
        id: the same whenever this event is delivered, and no other event's. An application that
            gets a message again and sends the same once more sends it under the same id, too.
        redelivered: it may have been delivered before, or was sent for a message that was
            redelivered.
        partition: the number of its partition.
    """

    id: str
    redelivered: bool
    partition: int


#: What is being delivered in the present context.
current: ContextVar[Delivery | None] = ContextVar("asgiref.redis.delivery", default=None)


@dataclass(slots=True, eq=False)
class Item:
    """A message on its way into a stream. ``stored`` is done when it is there."""

    scope_id: bytes
    scope: bytes
    message: bytes
    stored: "asyncio.Future[None] | None"

    @property
    def size(self) -> int:
        return len(self.scope) + len(self.message)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes: what the gates are compared with."""

    name: str
    token: int
    stream_limit: int
    dead_limit: int
    failures: int
    retry_delay: float
    max_size: int


class GateHost(Protocol):
    """What the ends need of their gateway."""

    def mark(self, station: Station) -> None: ...
    def taken(self, error: ConnectionTaken) -> None: ...
    def left(self, item: Item) -> None: ...
    def count_delivered(self, redelivered: bool) -> None: ...
    def count_failure(self, buried: bool) -> None: ...


class _End:
    """What both directions have in common: one call at a time, and opening the gate again."""

    def __init__(self, keys: PartitionKeys, identity: Identity, host: GateHost) -> None:
        self.keys: PartitionKeys = keys
        self._identity = identity
        self._host = host
        self._busy = False
        self._opening = False

    def next_call(self) -> Call | None:
        if self._busy:
            return None
        call = self.open_call() if self._opening else self._call()
        self._busy = call is not None
        return call

    def open_call(self) -> Call:
        return Call(OPEN, (self.keys.gate, self.keys.outgoing), self._who())

    def _who(self) -> tuple[str | int, str | int]:
        return self._identity.token, self._identity.name

    def unanswered(self) -> None:
        self._busy = False

    def answered(self, answer: Any) -> None:
        self._busy = False
        if isinstance(answer, Refused):
            self._refused(answer)
        elif self._opening:
            if answer == FENCED:
                name = self.keys.incoming.partition("{")[2].partition("/")[0]
                self._host.taken(ConnectionTaken(f"Another gateway took the connection {name!r}."))
                return
            self._opening = False
            self._host.mark(self)
        elif answer == FENCED:
            self._opening = True
            self._host.mark(self)
        else:
            self._done(answer)

    def _refused(self, error: Refused) -> None:
        if not error.out_of_memory:
            logger.error("Partition %d: %s", self.keys.number, error)
            self._opening = True
        self._later()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(FULL_DELAY, self._host.mark, self)

    def _call(self) -> Call | None:
        raise NotImplementedError

    def _done(self, answer: Any) -> None:
        raise NotImplementedError


class Inlet(_End):
    """The messages on their way into the incoming stream."""

    def __init__(self, keys: PartitionKeys, identity: Identity, host: GateHost) -> None:
        super().__init__(keys, identity, host)
        self._items: deque[Item] = deque()
        self._first = 1
        self._sent = 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._host.mark(self)

    def drained(self) -> list[Item]:
        """Everything that is not known to be in the stream; it is forgotten here."""
        items = list(self._items)
        self._items.clear()
        return items

    def _call(self) -> Call | None:
        if not self._items:
            return None
        strings: list[bytes] = []
        for item in islice(self._items, BATCH):
            strings += (item.scope_id, item.scope, item.message)
        self._sent = len(strings) // 3
        return Call(
            APPEND,
            (self.keys.incoming, self.keys.gate),
            (*self._who(), self._first, self._identity.stream_limit, packed(strings)),
        )

    def _done(self, answer: int) -> None:
        stored = answer + 1 - self._first
        for _ in range(min(stored, len(self._items))):
            self._host.left(self._items.popleft())
        self._first += max(0, stored)
        if stored < self._sent:
            self._later()
        elif self._items:
            self._host.mark(self)


class Outlet(_End):
    """The events on their way from the outgoing stream.

    Attributes:
        more: there may be something to read.
        doubt: the last event that may have been delivered before.
    """

    def __init__(
        self,
        keys: PartitionKeys,
        identity: Identity,
        host: GateHost,
        doubt: EntryId,
        deliver: Callable[[dict[str, Any], dict[str, Any]], Awaitable[Any]],
    ) -> None:
        super().__init__(keys, identity, host)
        self.more: bool = True
        self.doubt: EntryId = doubt
        self._deliver = deliver
        self._events: deque[tuple[str, dict[bytes, bytes]]] = deque()
        self._ids: list[str] = []
        self._buried: deque[tuple[str, int, str, str]] = deque()
        self._sent = 0
        self._asked = 0
        self._burying = False
        self._resync = True
        self._last = "0-0"
        self.task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """There may be something new."""
        self.more = True
        self._host.mark(self)

    def tidy_call(self) -> Call:
        return Call(TIDY, (self.keys.gate, self.keys.outgoing), self._who())

    def unanswered(self) -> None:
        super().unanswered()
        self._resync = self.more = True

    def _call(self) -> Call | None:
        if self._buried:
            self._burying = True
            id, attempts, reason, trace = self._buried[0]
            limit = self._identity.dead_limit
            return Call(
                BURY,
                (self.keys.gate, self.keys.outgoing, self.keys.dead),
                (*self._who(), id, attempts, limit, reason, trace),
            )
        self._burying = False
        room = AHEAD - len(self._events) - len(self._ids)
        self._asked = max(0, min(BATCH, room)) if self.more else 0
        if not self._asked and not self._ids:
            return None
        self.more = self.more and not self._asked
        ids = self._ids[: 2 * BATCH]
        self._sent = len(ids)
        after = self._last if self._resync else ""
        return Call(
            TAKE,
            (self.keys.gate, self.keys.outgoing),
            (*self._who(), self._asked, after, *ids),
        )

    def _done(self, answer: Any) -> None:
        if self._burying:
            self._buried.popleft()
            self._host.mark(self)
            return
        data, lost = answer
        entries = unpacked_entries(data)
        del self._ids[: self._sent]
        if self._asked and not lost:
            self._resync = False
        if entries:
            self.more = self.more or bool(lost) or len(entries) >= self._asked
            self._last = entries[-1][0]
            self._events.extend(entries)
            if self.task is None:
                self.task = asyncio.get_running_loop().create_task(self._work())
        if self._ids or self.more or self._buried:
            self._host.mark(self)

    async def _work(self) -> None:
        try:
            while self._events:
                id, fields = self._events[0]
                await self._deliver_one(id, fields)
                self._events.popleft()
                self._host.mark(self)
        finally:
            self.task = None

    async def _deliver_one(self, id: str, fields: dict[bytes, bytes]) -> None:
        limit = self._identity.max_size
        try:
            scope, message = decode(fields.get(b"s"), limit), decode(fields.get(b"m"), limit)
        except Malformed as error:
            logger.error("Event %s of partition %d is malformed: %s", id, self.keys.number, error)
            self._bury(id, 0, f"malformed: {error}", "")
            return
        redelivered = fields.get(b"r") == b"1" or entry_id(id) <= self.doubt
        delivery = Delivery(fields.get(b"d", b"").decode(), redelivered, self.keys.number)
        for attempt in range(1, self._identity.failures + 1):
            current.set(delivery)  # in the context of this task, which delivers nothing else now
            try:
                await self._deliver(scope, message)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"[:1000]
                trace = "".join(traceback.format_exception(error))[-TRACE_SIZE:]
                logger.error("application_send failed (%d): %s", attempt, reason, exc_info=error)
            else:
                self._ids.append(id)
                self._host.count_delivered(redelivered)
                return
            delivery = Delivery(delivery.id, True, delivery.partition)
            self._host.count_failure(buried=attempt == self._identity.failures)
            if attempt == self._identity.failures:
                self._bury(id, attempt, reason, trace)
            else:
                await asyncio.sleep(self._identity.retry_delay * 2 ** min(attempt - 1, 6))

    def _bury(self, id: str, attempts: int, reason: str, trace: str) -> None:
        self._buried.append((id, attempts, reason, trace))
        self._host.mark(self)
