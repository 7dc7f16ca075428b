"""What one partition says to Redis and hears from there, one call at a time.

A partition's calls come one after the other: a failure, records of attempts, or a step, which
writes a batch (`_writes`) and reads what is new. So they take effect in the order in which they
were said, and after a lost connection exactly one of them is in doubt, and said again.

Entries are read in order: each call first reads what one before it may have read, if its answer was
lost or it was made late. At most ``prefetch`` entries are read and unfinished: that bounds what a
worker holds in memory. A killed one leaves those to be redelivered, and what it had not yet
acknowledged in Redis.
"""

import asyncio
import enum
import logging
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ._attempts import NONE, Attempts
from ._client import Call, Refused
from ._entries import Event
from ._keys import GroupKeys
from ._line import Line
from ._packing import unpacked_entries
from ._settings import BATCH, WorkerSettings
from ._worker_scripts import BEGIN, FAIL, FENCED, FULL, STEP
from ._writes import Writes

logger = logging.getLogger("asgiref.redis")

#: Seconds until a full outgoing stream, or a full Redis, is tried again.
FULL_DELAY = 0.1


class Kind(enum.Enum):
    """What the call on its way is."""

    STEP = "step"
    BEGIN = "begin"
    FAIL = "fail"


@dataclass(slots=True, eq=False)
class Failure:
    """A failure that is to be written down.

    Attributes:
        line: None for an entry that nobody can read, so that it has none.
        is_last: it makes the entry a dead letter.
    """

    id: str
    line: Line | None
    attempts: Attempts
    is_last: bool
    reason: str
    trace: str = ""


@dataclass(slots=True, eq=False)
class Note:
    """A record of attempts to be written; the line, if any, goes on when it is."""

    id: str
    attempts: Attempts
    line: Line | None


class Owner(Protocol):
    """What it needs of its partition."""

    @property
    def is_ours(self) -> bool: ...
    @property
    def takes_new(self) -> bool: ...
    def mark(self, exchange: "Exchange") -> None: ...
    def receive(self, id: str, fields: dict[bytes, bytes]) -> None: ...
    def failure_written(self, failure: Failure) -> None: ...
    def lose(self, why: str) -> None: ...
    def changed(self) -> None: ...


class Exchange:
    """The station (`_pump`) of a partition.

    Attributes:
        writes: what is to be written.
        place: one of the partition's keys, which tells its node in a cluster.
    """

    def __init__(self, keys: GroupKeys, lease: str, settings: WorkerSettings, owner: Owner) -> None:
        self.writes: Writes = Writes()
        self.place: str = keys.lease
        self._keys = keys
        self._lease = lease
        self._settings = settings
        self._owner = owner
        self._failures: deque[Failure] = deque()
        self._notes: deque[Note] = deque()
        self._on_its_way: Kind | None = None
        self._noting = 0  # how many notes the call on its way has
        self._more = True  # there may be something to read
        self._asked = 0
        self._last = "0-0"
        self._unfinished = 0

    @property
    def is_done(self) -> bool:
        """Whether everything has been written."""
        return not (self.writes or self._failures or self._notes or self._on_its_way)

    # What the partition says

    def look(self) -> None:
        """There may be something to read."""
        self._more = True
        self._owner.mark(self)

    def acknowledge(self, id: str) -> None:
        self._unfinished -= 1
        self.writes.acknowledge(id)
        self._owner.mark(self)

    def send(self, event: Event) -> None:
        self.writes.add(event)
        self._owner.mark(self)

    def note(self, id: str, attempts: Attempts, line: Line | None = None) -> None:
        """Have it written down how often an entry was tried; ``line.noted`` is called then."""
        self._notes.append(Note(id, attempts, line))
        self._owner.mark(self)

    def fail(self, failure: Failure) -> None:
        self._failures.append(failure)
        self._owner.mark(self)

    def refuse(self, id: str, reason: str) -> None:
        """An entry that was just read is none."""
        self.fail(Failure(id, None, NONE, True, reason))

    def abandon(self, why: str) -> None:
        """Say nothing more; who waits for something gets LeaseLost."""
        self._failures.clear()
        self._notes.clear()
        self.writes.abandon(why)

    # What goes to Redis

    def next_call(self) -> Call | None:
        if self._on_its_way is not None or not self._owner.is_ours:
            return None
        if self._failures:
            self._on_its_way = Kind.FAIL
            return self._failure(self._failures[0])
        if self._notes:
            self._on_its_way = Kind.BEGIN
            return self._begin()
        count = self._count_to_read()
        if not self.writes and not count:
            return None
        self._on_its_way = Kind.STEP
        self._asked = count
        self._more = self._more and not count
        return self._step(count)

    def _count_to_read(self) -> int:
        if not self._more or not self._owner.takes_new:
            return 0
        return max(0, min(BATCH, self._settings.prefetch - self._unfinished))

    def _step(self, count: int) -> Call:
        keys, settings, batch = self._keys, self._settings, self.writes.next_batch()
        stream = keys.partition
        return Call(
            STEP,
            (keys.lease, keys.state, stream.incoming, stream.outgoing, keys.failures),
            (
                self._lease,
                settings.group,
                f"asgiref:{{{settings.connection}}}:outgoing",
                stream.number,
                settings.stream_limit,
                batch.first,
                batch.events,
                batch.ids,
                count,
                self._last,
                batch.data,
            ),
        )

    def _begin(self) -> Call:
        notes = list(islice(self._notes, BATCH))
        self._noting = len(notes)
        pairs = [text for note in notes for text in (note.id, note.attempts.record)]
        return Call(BEGIN, (self._keys.lease, self._keys.failures), (self._lease, *pairs))

    def _failure(self, failure: Failure) -> Call:
        keys, settings = self._keys, self._settings
        stream = keys.partition
        return Call(
            FAIL,
            (keys.lease, keys.state, stream.incoming, keys.failures, stream.dead),
            (
                self._lease,
                settings.group,
                failure.id,
                failure.attempts.count,
                "" if failure.is_last else failure.attempts.record,
                settings.dead_limit,
                failure.reason,
                failure.trace,
            ),
        )

    # What comes from there

    def unanswered(self) -> None:
        if self._on_its_way is Kind.STEP:
            self.writes.batch_unknown()
            self._more = True
        self._on_its_way = None

    def answered(self, answer: Any) -> None:
        kind, self._on_its_way = self._on_its_way, None
        if not self._owner.is_ours:
            return
        if isinstance(answer, Refused) and answer.out_of_memory:
            answer = FULL
        if isinstance(answer, Refused):
            logger.error("Partition %d is given up: %s", self._keys.partition.number, answer)
            self._owner.lose("Redis refused to go on with it")
        elif answer == FENCED:
            self._owner.lose("another worker has it, or its lease ran out")
        elif answer == FULL:
            self._full()
        else:
            self._done(kind, answer)

    def _full(self) -> None:
        self.writes.batch_unknown()
        self._more = True
        asyncio.get_running_loop().call_later(FULL_DELAY, self._owner.mark, self)

    def _done(self, kind: Kind | None, answer: Any) -> None:
        if kind is Kind.FAIL:
            failure = self._failures.popleft()
            self._unfinished -= failure.is_last
            self._owner.failure_written(failure)
        elif kind is Kind.BEGIN:
            self._noted()
        else:
            self._stepped(answer)
        if self.writes or self._more or self._failures or self._notes:
            self._owner.mark(self)
        self._owner.changed()

    def _noted(self) -> None:
        for note in [self._notes.popleft() for _ in range(self._noting)]:
            if note.line is not None:
                note.line.noted()

    def _stepped(self, answer: list[Any]) -> None:
        data, lost = answer
        entries = unpacked_entries(data)
        self.writes.batch_written()
        if entries:
            self._more = self._more or bool(lost) or len(entries) >= self._asked
            self._last = entries[-1][0]
        if self._owner.takes_new:  # or it drains, and what it has just read is its successor's
            self._unfinished += len(entries)
            for id, fields in entries:
                self._owner.receive(id, fields)
