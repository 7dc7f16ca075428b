"""A partition that this worker holds, from the lease to its end.

    HELD ── `drain` ──> DRAINING ── `release` ──> RELEASED
      └──────────────────┴── the lease is over ──> LOST

1. What is written for the partition carries the lease. Redis refuses it once the lease is another's
   (`_scripts`); and here the partition is LOST at the time at which the lease may be over, counted
   from before the request that renewed it. That comes first unless the process stands still.
2. Acknowledgements and events are written in the order in which they arose, so what a message
   caused is in Redis before the message is acknowledged.
3. Entries are read in order, and given to their lines in that order. After a call whose answer was
   lost, the next one reads what that one may have read.
4. At most ``prefetch`` entries are read and unfinished. That bounds what a worker holds in memory
   and what a killed one leaves to be redelivered.
"""

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol

from ._client import Call, Refused
from ._codec import MAX_ID, Malformed, checked, decode
from ._entries import Entry, EntryId, Event, entry_id
from ._errors import LeaseLost
from ._keys import GroupKeys
from ._line import Line
from ._packing import packed, unpacked_entries
from ._scripts import FAIL, FENCED, FULL, STEP
from ._settings import BATCH, WAITING, WRITES, Settings

logger = logging.getLogger("asgiref.redis")

#: Seconds until a full outgoing stream, or a full Redis, is tried again.
FULL_DELAY = 0.1
#: Seconds that writing the last of a partition may take before it is left to be redelivered.
FLUSH_SECONDS = 5.0


class State(enum.Enum):
    HELD = "held"
    DRAINING = "draining"
    RELEASED = "released"
    LOST = "lost"


class Host(Protocol):
    """What a partition needs of its worker."""

    def mark(self, station: Any) -> None: ...
    def offer(self, line: Line) -> None: ...
    def withdrawn(self, line: Line) -> None: ...
    def stop(self, partition: "Partition", scope_id: str) -> None: ...
    def count_handled(self) -> None: ...
    def count_failure(self, buried: bool) -> None: ...
    def count_redelivered(self) -> None: ...
    def ended(self, partition: "Partition") -> None: ...


class _Failure:
    """A failure that is to be written down. ``line`` is None for an entry that has no line."""

    __slots__ = ("attempts", "id", "line", "reason", "trace")

    def __init__(self, id: str, attempts: int, reason: str, trace: str, line: Line | None) -> None:
        self.id = id
        self.attempts = attempts
        self.reason = reason
        self.trace = trace
        self.line = line


class Partition:
    """One partition, and the lines of its scopes. Everything on the thread of the event loop.

    Attributes:
        place: one of its keys, which tells its node in a cluster.
        lease: the value of its key: the fencing token and the worker's name.
        doubt: the last entry that an application may have seen before.
        deadline: when the lease may be over, in seconds of the event loop's clock.
        begun: how many messages applications have in hand.
        more: there may be something to read.
        pending, lag: what Redis said of it last.
    """

    def __init__(
        self,
        keys: GroupKeys,
        lease: str,
        doubt: EntryId,
        failures: dict[str, int],
        deadline: float,
        settings: Settings,
        host: Host,
    ) -> None:
        self.keys: GroupKeys = keys
        self.place: str = keys.lease
        self.lease: str = lease
        self.doubt: EntryId = doubt
        self.deadline: float = deadline
        self.settings: Settings = settings
        self.host: Host = host
        self.state: State = State.HELD
        self.lines: dict[str, Line] = {}
        self.begun: int = 0
        self.more: bool = True
        self.pending: int = 0
        self.lag: int = 0
        self._attempts = failures
        self._writes: deque[Event | bytes] = deque()
        self._failures: deque[_Failure] = deque()
        self._events = 0  # how many of the writes
        self._written = 0  # how many events are in Redis
        self._sending = (0, 0)  # how many writes, and of them events, the call on its way has
        self._busy = False
        self._asked = 0
        self._resync = True
        self._last = "0-0"
        self._unfinished = 0
        self._unsolicited = 0
        self._confirmations: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._room: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()

    @property
    def number(self) -> int:
        return self.keys.partition.number

    @property
    def token(self) -> int:
        return int(self.lease.partition(":")[0])

    @property
    def takes_new(self) -> bool:
        """Whether applications may begin with another message."""
        return self.state is State.HELD

    @property
    def is_ours(self) -> bool:
        return self.state is State.HELD or self.state is State.DRAINING

    def check(self) -> None:
        """Raise LeaseLost if the lease is over, which is noticed here if nowhere else."""
        if self.is_ours and asyncio.get_running_loop().time() >= self.deadline:
            self.lose("its lease ran out")
        if not self.is_ours:
            raise LeaseLost(f"Partition {self.number} of {self.settings.connection} was lost.")

    # What lines say

    def acknowledge(self, entry: Entry) -> None:
        """The application has finished a message."""
        self._unfinished -= 1
        self._writes.append(entry.id.encode())
        self.host.mark(self)
        self._changed.set()

    def report_failure(self, entry: Entry, reason: str, trace: str, line: Line) -> None:
        """Have it written down that the application has failed."""
        self._failures.append(_Failure(entry.id, entry.attempts, reason, trace, line))
        self.host.mark(self)
        self._changed.set()

    def run_ended(self, line: Line) -> None:
        """A line's application has ended: without a message, nothing need remember the scope."""
        if not line.entries and self.lines.get(line.scope_id) is line:
            del self.lines[line.scope_id]

    def line_rests(self, line: Line) -> None:
        """A line is done with a message, and gets no other one: the partition drains."""
        self._changed.set()
        asyncio.get_running_loop().call_soon(self.host.stop, self, line.scope_id)

    async def send(self, line: Line, message: object) -> None:
        """Take an event that the line's application sends.

        It returns at once, unless too many wait; what belongs to no message in hand is only safe
        when it is written, so then it returns after that.
        """
        data = checked(self.settings.encode, "message", message, self.settings.max_size)
        while self._events >= WAITING:
            self.check()
            await self._wait_for_room()
        self.check()
        entry = line.in_hand
        if entry is not None:
            line.sent += 1
            name = f"{self.settings.group}/{self.number}/{entry.id}/{line.sent}"
        else:
            self._unsolicited += 1
            name = f"{self.settings.group}/{self.number}/{self.token}:{self._unsolicited}"
        redelivered = entry is not None and entry.redelivered
        self._writes.append(
            Event(name.encode(), line.scope_id.encode(), line.scope_data, data, redelivered)
        )
        self._events += 1
        self.host.mark(self)
        if entry is None:
            written = asyncio.get_running_loop().create_future()
            self._confirmations.append((self._written + self._events, written))
            await written

    async def _wait_for_room(self) -> None:
        room = asyncio.get_running_loop().create_future()
        self._room.append(room)
        await room

    # What goes to Redis and comes from there

    def next_call(self) -> Call | None:
        if self._busy or not self.is_ours:
            return None
        if self._failures:
            self._busy = True
            return self._failure_call(self._failures[0])
        count = self._count_to_read()
        if not self._writes and not count:
            return None
        self._busy = True
        self._asked = count
        self.more = self.more and not count
        return self._step(count)

    def _count_to_read(self) -> int:
        if not self.more or not self.takes_new:
            return 0
        return max(0, min(BATCH, self.settings.prefetch - self._unfinished))

    def _step(self, count: int) -> Call:
        keys, settings = self.keys, self.settings
        ids: list[bytes] = []
        strings: list[bytes] = []
        for each in islice(self._writes, WRITES):
            if isinstance(each, Event):
                mark = b"1" if each.redelivered else b""
                strings += (each.id, each.scope_id, each.scope, each.message, mark)
            else:
                ids.append(each)
        events = len(strings) // 5
        self._sending = (events + len(ids), events)
        strings += ids
        stream = keys.partition
        return Call(
            STEP,
            (keys.lease, keys.state, stream.incoming, stream.outgoing, keys.failures),
            (
                self.lease,
                settings.group,
                f"asgiref:{{{settings.connection}}}:outgoing",
                self.number,
                settings.stream_limit,
                self._written + 1,
                events,
                len(ids),
                count,
                self._last if self._resync else "",
                packed(strings),
            ),
        )

    def _failure_call(self, failure: _Failure) -> Call:
        keys, settings = self.keys, self.settings
        stream = keys.partition
        return Call(
            FAIL,
            (keys.lease, keys.state, stream.incoming, keys.failures, stream.dead),
            (
                self.lease,
                settings.group,
                failure.id,
                failure.attempts,
                settings.failures if failure.line is not None else 0,
                settings.dead_limit,
                failure.reason,
                failure.trace,
            ),
        )

    def unanswered(self) -> None:
        self._busy = False
        self._sending = (0, 0)
        self._resync = True
        self.more = True

    def answered(self, answer: Any) -> None:
        self._busy = False
        if not self.is_ours:
            return
        if isinstance(answer, Refused) and answer.out_of_memory:
            answer = FULL
        if isinstance(answer, Refused):
            logger.error("Partition %d is given up: %s", self.number, answer)
            self.lose("Redis refused to go on with it")
        elif answer == FENCED:
            self.lose("another worker has it, or its lease ran out")
        elif answer == FULL:
            self.more = True
            asyncio.get_running_loop().call_later(FULL_DELAY, self.host.mark, self)
        elif isinstance(answer, int):
            self._failure_written(self._failures.popleft(), buried=answer == 0)
        else:
            self._stepped(answer)

    def _stepped(self, answer: list[Any]) -> None:
        data, lost = answer
        entries = unpacked_entries(data)
        writes, events = self._sending
        self._sending = (0, 0)
        for _ in range(writes):
            self._writes.popleft()
        self._events -= events
        self._written += events
        self._confirm()
        if self._asked and not lost:
            self._resync = False
        if entries:
            self.more = self.more or bool(lost) or len(entries) >= self._asked
            self._last = entries[-1][0]
        if self.takes_new:  # or it drains, and what it has just read is its successor's
            for each, fields in entries:
                self._accept(each, fields)
        if self._writes or self.more or self._failures:
            self.host.mark(self)
        self._changed.set()

    def _confirm(self) -> None:
        while self._confirmations and self._confirmations[0][0] <= self._written:
            future = self._confirmations.popleft()[1]
            if not future.done():
                future.set_result(None)
        if self._room and self._events < WAITING:
            room, self._room = self._room, []
            for future in room:
                if not future.done():
                    future.set_result(None)

    def _accept(self, id: str, fields: dict[bytes, bytes]) -> None:
        """One entry has been read: give it to its line."""
        self._unfinished += 1
        limit = self.settings.max_size
        try:
            line = self._line_for(fields)
            message = decode(fields.get(b"m"), limit)
        except Malformed as error:
            reason = f"malformed: {error}"
            logger.error("Entry %s of partition %d is %s", id, self.number, reason)
            self._failures.append(_Failure(id, 0, reason, "", None))
            return
        redelivered = entry_id(id) <= self.doubt
        if redelivered:
            self.host.count_redelivered()
        line.add(Entry(id, message, redelivered, self._attempts.pop(id, 0)))

    def _line_for(self, fields: dict[bytes, bytes]) -> Line:
        raw = fields.get(b"i")
        if raw is None or len(raw) > MAX_ID:
            raise Malformed("a scope's id is missing or too long")
        try:
            scope_id = raw.decode()
        except UnicodeDecodeError:
            raise Malformed("a scope's id is not UTF-8") from None
        line = self.lines.get(scope_id)
        if line is None:
            data = fields.get(b"s", b"")
            scope = decode(data, self.settings.max_size)
            if not isinstance(scope.get("type"), str):
                raise Malformed("the scope has no type")
            scope["redis"] = {
                "connection": self.settings.connection,
                "group": self.settings.group,
                "worker": self.settings.name,
                "partition": self.number,
                "token": self.token,
                "scope_id": scope_id,
            }
            line = self.lines[scope_id] = Line(self, scope_id, scope, data)
        return line

    def _failure_written(self, failure: _Failure, *, buried: bool) -> None:
        self.host.count_failure(buried)
        if buried:
            self._unfinished -= 1
        if failure.line is not None and buried:
            logger.error(
                "Entry %s of partition %d is a dead letter after %d attempts: %s",
                failure.id,
                self.number,
                failure.attempts,
                failure.reason,
            )
        if failure.line is not None:
            failure.line.failed(buried)
        self.host.mark(self)
        self._changed.set()

    # The end

    async def drain(self, seconds: float) -> bool:
        """Let applications finish what they have in hand, and no more; then stop them.

        Returns:
            Whether nothing is left that an application has begun with.
        """
        self.state = State.DRAINING
        for line in list(self.lines.values()):
            if line.in_hand is None:
                line.cut()
                self.host.stop(self, line.scope_id)
        if not await self._until(lambda: self.begun == 0, seconds):
            logger.warning("Partition %d: %d applications are cut off", self.number, self.begun)
        for line in list(self.lines.values()):
            self.host.stop(self, line.scope_id)
            line.cut()
        written = await self._until(
            lambda: not (self._writes or self._failures or self._busy), FLUSH_SECONDS
        )
        return written and not any(
            entry.begun or entry.attempts for line in self.lines.values() for entry in line.entries
        )

    async def _until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait so long; give whether it was reached, and the partition is still ours."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.is_ours and not reached():
                    self._changed.clear()
                    await self._changed.wait()
        return self.is_ours and reached()

    def released(self) -> None:
        """The lease is given back."""
        self._end(State.RELEASED)

    def lose(self, why: str) -> None:
        """The lease is over: stop the partition's applications at once, and write nothing more."""
        if self.is_ours:
            logger.warning("Partition %d is lost: %s", self.number, why)
            self._end(State.LOST)

    def _end(self, state: State) -> None:
        self.state = state
        for line in list(self.lines.values()):
            line.cut()
            self.host.stop(self, line.scope_id)
        self.lines.clear()
        self._writes.clear()
        self._failures.clear()
        for future in (*self._room, *(future for _, future in self._confirmations)):
            if not future.done():
                future.set_exception(LeaseLost(f"Partition {self.number} was lost."))
        self._room.clear()
        self._confirmations.clear()
        self._changed.set()
        self.host.ended(self)
