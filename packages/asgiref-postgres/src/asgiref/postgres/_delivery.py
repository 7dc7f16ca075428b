"""Choose the next message of each scope, and the writes of the next transaction. No I/O.

A message is *held* from the read that returned it until the transaction that deletes its row, and
*in progress* while an application handles it. Invariant: a scope has at most one message in
progress, always the oldest that is held; and every row of an owned partition is held, or *behind*
(to be read later, because its scope has reached its limit), or above the partition's mark.

When a reader dies, the rows it had read become *suspects*: one of them may have killed it. They
are handed out one at a time, and each attempt is written before it starts. A reader that only lost
its session is still alive, so the rows it has *seen* before are merely redelivered.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import islice

from ._codec import CannotStart
from ._schema import SPAN

#: The maximum number of rows of one partition that a read returns.
_MAX_ROWS = 500
#: The maximum number of scopes that are behind in a read. Each returns at least one row.
_MAX_LATE = 100

#: A row that a read returned: id, scope id, data, attempts, and whether it was marked as
#: redelivered. The data is None if the read excluded the scope.
Row = tuple[int, str, bytes | None, int, bool]


@dataclass(slots=True, eq=False)
class Message:
    """One row of the messages table.

    Attributes:
        attempts: how many times the message failed, or was handed out after a reader died.
        redelivered: whether an application may have seen the message before.
        is_suspect: whether the message may have killed a reader; False once an attempt is written.
        reason: why the message became a dead letter.
    """

    id: int
    scope_id: str
    data: bytes
    attempts: int = 0
    redelivered: bool = False
    is_suspect: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a process holds at once, and when a message becomes a dead letter.

    Attributes:
        messages: the maximum number of messages to hold.
        size: the maximum number of bytes to hold.
        scope_messages: the maximum number of messages to hold for one scope. Once half of the total
            is used, each scope holds one message at a time, so that a few hundred slow scopes
            cannot use it all.
        scope_size: the maximum number of bytes to hold for one scope.
        attempts: the number of failures after which a message becomes a dead letter.
        retry_delay: seconds before the second attempt; the delay doubles each time, up to a minute.
    """

    messages: int = 1000
    size: int = 16 << 20
    scope_messages: int = 50
    scope_size: int = 2 << 20
    attempts: int = 5
    retry_delay: float = 0.1

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            minimum = 0 if each.name == "retry_delay" else 1
            if not value >= minimum:
                raise CannotStart(
                    f"The limit {each.name} must be at least {minimum}, not {value!r}."
                )


@dataclass(slots=True)
class Writes:
    """The changes to messages that a transaction must write.

    Attributes:
        done: handled messages to delete.
        tried: messages whose attempts must be stored, by id; none of them is done or dead.
        dead: messages that become dead letters.
    """

    done: list[Message] = field(default_factory=list[Message])
    tried: dict[int, Message] = field(default_factory=dict[int, Message])
    dead: list[Message] = field(default_factory=list[Message])

    def __bool__(self) -> bool:
        return bool(self.done or self.tried or self.dead)


@dataclass(frozen=True, slots=True)
class Range:
    """Rows to read: ids above ``after`` up to ``upto``, of one partition or one scope.

    The range ends after ``limit`` rows, or after the row that brings the total to ``size`` bytes.

    Attributes:
        scope_id: the scope, if the range is for a scope that is behind; None for a partition.
    """

    scope_id: str | None
    after: int
    upto: int
    limit: int
    size: int

    def is_cut(self, rows: list[Row]) -> bool:
        """Whether the range may have more rows than the read returned."""
        return len(rows) >= self.limit or sum(len(row[2] or b"") for row in rows) >= self.size


@dataclass(frozen=True, slots=True)
class Read:
    """The rows that a transaction must read.

    Attributes:
        ranges: first those of scopes that are behind, then one for each partition.
        known: the ids to skip in a partition.
        behind: scopes whose rows come back without data in a partition's range.
    """

    ranges: list[Range] = field(default_factory=list[Range])
    known: list[int] = field(default_factory=list[int])
    behind: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Partition:
    """The progress of reading one partition.

    Attributes:
        suspect: a reader that died may have handed out rows up to this id.
        seen: rows up to this id may have been handed out before.
        mark: every row up to this id has been read.
        cursor: the highest id that was read.
        candidate: the next mark, and the id below which every transaction must have ended before
            the mark moves.
        known: ids above the mark that were read and may still be in the table.
        in_hand: the number of messages in progress.
        is_releasing: whether its release has started: no messages are read or handed out then.
    """

    number: int
    suspect: int
    seen: int
    mark: int
    cursor: int
    candidate: tuple[int, int] | None = None
    known: set[int] = field(default_factory=set[int])
    in_hand: int = 0
    is_releasing: bool = False

    def has_read(self, id: int) -> bool:
        """Whether a read of the partition has returned this row."""
        return id <= self.mark or id in self.known

    def move_mark(self, cut_at: int | None, xmin: int, own: int) -> None:
        """Move the mark after a read that was complete, or was cut at the row ``cut_at``."""
        if self.candidate is not None:
            mark, since = self.candidate
            # A read that was cut may have left out rows below the candidate.
            if xmin >= since and (cut_at is None or cut_at >= mark):
                self.mark, self.candidate = mark, None
                self.known = {id for id in self.known if id > mark}
        if self.candidate is None and self.cursor > self.mark:
            self.candidate = (self.cursor, own)


@dataclass(slots=True)
class _Scope:
    """The held messages of one scope.

    Attributes:
        ids: the messages that are held, or handled but not yet deleted.
        is_blocked: whether the scope is waiting for a retry.
    """

    id: str
    partition: Partition
    # The first message of each scope creates one; calling `deque[Message]` takes six times as long.
    queue: deque[Message] = field(default_factory=lambda: deque())
    in_hand: Message | None = None
    ids: set[int] = field(default_factory=lambda: set())
    size: int = 0
    is_blocked: bool = False

    def count(self) -> int:
        return len(self.queue) + (self.in_hand is not None)


class Delivery:
    """The messages of one reader."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: The owned partitions, including those being released.
        self.partitions: dict[int, Partition] = {}
        self._scopes: dict[str, _Scope] = {}
        #: For each scope that is behind, the first and the last id that it does not hold.
        self._behind: dict[str, tuple[int, int]] = {}
        self._size = 0
        self.held: int = 0
        self._ready: dict[str, None] = {}
        self._blocked: list[tuple[float, str]] = []
        self._writes = Writes()
        self._suspects: dict[int, Message] = {}
        self._isolated: Message | None = None

    # Partitions

    def acquire(self, partition: int, suspect: int, seen: int) -> None:
        """Start reading a partition.

        Args:
            partition: the partition's number.
            suspect: messages up to this number may have killed a reader.
            seen: messages up to this number may have been handed out; at least ``suspect``.
        """
        start = partition * SPAN
        self.partitions[partition] = Partition(
            partition, start + suspect, start + seen, start, start
        )

    def keep(self, partition: Partition) -> None:
        """Stop releasing a partition."""
        partition.is_releasing = False
        for scope in self._scopes.values():
            if scope.partition is partition:
                self.offer(scope.id)

    def drop(self, partition: int) -> int:
        """Forget a partition; return the number up to which its messages are suspects.

        Call this when no message is in progress and a transaction has written all changes.
        """
        found = self.partitions.pop(partition)
        for scope in [each for each in self._scopes.values() if each.partition is found]:
            self.held -= scope.count()
            self._size -= scope.size
            self._ready.pop(scope.id, None)
            self._behind.pop(scope.id, None)
            del self._scopes[scope.id]
            for message in scope.queue:
                self._suspects.pop(message.id, None)
        return found.seen % SPAN

    # Reading

    def next_read(self) -> Read:
        """Return the next read, which is empty if there is no room for more messages."""
        reading = [each for each in self.partitions.values() if not each.is_releasing]
        room = self._limits.messages - self.held
        size = self._limits.size - self._size
        if not reading or room <= 0 or size <= 0:
            return Read()
        late = self._late(room, size)
        room, size = max(1, min(room // len(reading), _MAX_ROWS)), max(1, size // len(reading))
        forward = [
            Range(None, each.mark, (each.number + 1) * SPAN - 1, room, size) for each in reading
        ]
        known = [id for each in reading for id in each.known]
        return Read(late + forward, known, list(self._behind))

    def _late(self, room: int, size: int) -> list[Range]:
        """Return the ranges of scopes that are behind, which share ``room`` rows and ``size``."""
        chosen = list(islice(filter(self._room, self._behind), min(room, _MAX_LATE)))
        ranges: list[Range] = []
        for each in chosen:
            first, last = self._behind[each]
            limit = min(self._room(each), room // len(chosen))
            left = min(self._limits.scope_size - self._scopes[each].size, size // len(chosen))
            ranges.append(Range(each, first - 1, last, limit, max(1, left)))
        return ranges

    def _room(self, scope_id: str) -> int:
        """Return how many more messages to hold for a scope that is behind; 0 if it must wait."""
        scope = self._scopes[scope_id]
        limit = self._scope_limit()
        room = limit - scope.count()
        # Wait until half of the limit is free, so that a scope that is behind is read in batches.
        is_waiting = scope.partition.is_releasing or room < max(1, limit / 2)
        return 0 if is_waiting or scope.size >= self._limits.scope_size else room

    def rows_read(self, read: Read, rows: Iterable[Row], xmin: int, own: int) -> bool:
        """Add the rows of a read; return whether the next read will certainly find more.

        Args:
            read: the read, as `next_read` returned it.
            rows: the rows, in order within each range.
            xmin: the oldest transaction that was in flight when the read started.
            own: the id of the transaction that read; 0 if it read nothing.
        """
        found: dict[str | int, list[Row]] = {
            each.upto if each.scope_id is None else each.scope_id: [] for each in read.ranges
        }
        for row in rows:
            late = None if row[2] is None else found.get(row[1])
            (found[row[0] // SPAN * SPAN + SPAN - 1] if late is None else late).append(row)
        more = False
        for each in read.ranges:
            if each.scope_id is not None:
                more |= self._read_late(each, self._scopes[each.scope_id], found[each.scope_id])
            else:
                more |= self._read_forward(each, found[each.upto], xmin, own)
        return more

    def _read_late(self, late: Range, scope: _Scope, rows: list[Row]) -> bool:
        del self._behind[scope.id]
        if late.is_cut(rows):
            self._behind[scope.id] = (rows[-1][0] + 1, late.upto)
        for row in rows:
            # Leave a new row to the partition's range, which keeps the order: this range may lack
            # an earlier row of the same transaction.
            if row[0] in scope.ids or not scope.partition.has_read(row[0]):
                continue
            if self._is_full(scope):  # other scopes have used the room meanwhile
                self._behind[scope.id] = (row[0], late.upto)
                break
            self._hold(scope, row)
        self.offer(scope.id)
        self._forget_if_empty(scope)
        return scope.id in self._behind and self._room(scope.id) > 0

    def _read_forward(self, forward: Range, rows: list[Row], xmin: int, own: int) -> bool:
        partition, is_cut = self.partitions[forward.upto // SPAN], forward.is_cut(rows)
        for row in rows:
            partition.known.add(row[0])
            partition.cursor = max(partition.cursor, row[0])
            if (scope := self._scopes.get(row[1])) is None:
                scope = self._scopes[row[1]] = _Scope(row[1], partition)
            if row[2] is None or row[1] in self._behind or self._is_full(scope):
                first, last = self._behind.get(row[1], (row[0], row[0]))
                self._behind[row[1]] = (min(first, row[0]), max(last, row[0]))
            else:
                self._hold(scope, row)
                self.offer(row[1])
        if own:
            partition.move_mark(rows[-1][0] if is_cut else None, xmin, own)
        return is_cut

    def _hold(self, scope: _Scope, row: Row) -> None:
        id, scope_id, data, attempts, redelivered = row
        assert data is not None
        partition = scope.partition
        redelivered = redelivered or id <= partition.seen or attempts > 0
        message = Message(id, scope_id, data, attempts, redelivered, id <= partition.suspect)
        scope.queue.append(message)
        scope.ids.add(id)
        scope.size += len(data)
        self._size += len(data)
        self.held += 1
        if message.is_suspect:
            self._suspects[id] = message

    def _is_full(self, scope: _Scope) -> bool:
        return scope.count() >= self._scope_limit() or scope.size >= self._limits.scope_size

    def _scope_limit(self) -> int:
        limits = self._limits
        used = max(self.held / limits.messages, self._size / limits.size)
        if used >= 1:
            return 0
        return 1 if used >= 0.5 else limits.scope_messages

    # Handing out

    def take_ready(self, now: float) -> list[str]:
        """Return the scopes that got a message since the last call and can still hand it out."""
        while self._blocked and self._blocked[0][0] <= now:
            scope_id = heapq.heappop(self._blocked)[1]
            if (scope := self._scopes.get(scope_id)) is not None:
                scope.is_blocked = False
            self.offer(scope_id)
        # An instance may have taken the message, and ended: another one would wait for nothing.
        ready, self._ready = self._ready, {}
        for scope_id in ready:
            self.offer(scope_id)
        ready, self._ready = self._ready, {}
        return list(ready)

    def next_time(self) -> float:
        """Return the time of the next retry, or infinity if no retry is waiting."""
        return self._blocked[0][0] if self._blocked else float("inf")

    def next_message(self, scope_id: str) -> Message | None:
        """Return the next message of a scope, which is then in progress, or None."""
        scope = self._scopes.get(scope_id)
        if scope is None or not self._can_give(scope):
            return None
        message = scope.in_hand = scope.queue.popleft()
        scope.partition.in_hand += 1
        return message

    def _can_give(self, scope: _Scope) -> bool:
        return self._is_free(scope) and not scope.queue[0].is_suspect

    def _is_free(self, scope: _Scope) -> bool:
        """Whether the scope could hand out its oldest message now, were it not for suspects."""
        is_busy = scope.in_hand is not None or scope.is_blocked or scope.partition.is_releasing
        return bool(scope.queue) and not is_busy

    def offer(self, scope_id: str) -> None:
        """Make `take_ready` return the scope again if it has a message to hand out."""
        scope = self._scopes.get(scope_id)
        if scope is not None and self._can_give(scope):
            self._ready[scope_id] = None

    def acknowledge(self, message: Message) -> None:
        """Acknowledge ``message``, which the application has handled."""
        if (scope := self._returned(message)) is not None:
            self._writes.done.append(message)
            self._forget(scope, message)

    def fail(self, message: Message, reason: str, now: float) -> None:
        """Record that ``message`` failed; hand it out again later, or make it a dead letter."""
        is_counted = message is self._isolated  # its attempt was counted when it started
        if (scope := self._returned(message)) is None:
            return
        message.attempts += not is_counted
        if message.attempts >= self._limits.attempts:
            self._bury(scope, message, reason)
            return
        self._requeue(scope, message)
        scope.is_blocked = True
        delay = min(self._limits.retry_delay * 2.0 ** min(message.attempts - 1, 20), 60.0)
        heapq.heappush(self._blocked, (now + delay, message.scope_id))

    def put_back(self, message: Message) -> None:
        """Requeue ``message`` after a cancellation; the scope's next instance gets it."""
        if (scope := self._returned(message)) is not None:
            self._requeue(scope, message)
            self.offer(message.scope_id)

    def discard(self, message: Message, reason: str) -> None:
        """Make ``message``, which must be in progress, a dead letter at once."""
        if (scope := self._returned(message)) is not None:
            self._bury(scope, message, reason)

    def _returned(self, message: Message) -> _Scope | None:
        """End the handling of ``message``; return its scope, or None if its partition is gone."""
        scope = self._scopes.get(message.scope_id)
        if scope is None or scope.in_hand is not message:
            return None
        scope.in_hand = None
        scope.partition.in_hand -= 1
        if self._isolated is message:
            self._isolated = None
        return scope

    def _requeue(self, scope: _Scope, message: Message) -> None:
        message.redelivered = True
        scope.queue.appendleft(message)
        self._writes.tried[message.id] = message

    def _bury(self, scope: _Scope, message: Message, reason: str) -> None:
        message.reason = reason
        self._writes.dead.append(message)
        self._forget(scope, message)

    def _forget(self, scope: _Scope, message: Message) -> None:
        """Stop holding ``message``; the next transaction deletes its row."""
        self._writes.tried.pop(message.id, None)
        scope.size -= len(message.data)
        self._size -= len(message.data)
        self.held -= 1
        self.offer(message.scope_id)

    def _forget_if_empty(self, scope: _Scope) -> None:
        if not scope.ids and scope.id not in self._behind:
            del self._scopes[scope.id]

    # Writing

    def take_writes(self) -> Writes:
        """Return the writes of the next transaction; call `written` after its commit."""
        self._isolate()
        writes, self._writes = self._writes, Writes()
        return writes

    def has_writes(self) -> bool:
        """Whether a transaction is needed, to write changes or to hand out the next suspect."""
        return bool(self._writes) or (self._isolated is None and self._oldest_suspect() is not None)

    def written(self, writes: Writes) -> None:
        """Record that the transaction with ``writes`` was committed. Call `rows_read` first."""
        for message in (*writes.done, *writes.dead):
            scope = self._scopes.get(message.scope_id)
            if scope is not None:  # otherwise its partition was dropped
                scope.partition.known.discard(message.id)
                scope.ids.discard(message.id)
                self._forget_if_empty(scope)
        isolated = self._isolated
        if isolated is not None and isolated.id in writes.tried:
            isolated.is_suspect = False
            self.offer(isolated.scope_id)

    def _isolate(self) -> None:
        """Choose the next suspect; one that has used all its attempts becomes a dead letter."""
        self._return_isolated()
        while self._isolated is None and (message := self._oldest_suspect()) is not None:
            del self._suspects[message.id]
            # The death that made it a suspect counts as an attempt for each suspect.
            message.attempts = max(message.attempts, 1)
            # A reader dies with many messages that it has only read: each gets one attempt alone.
            if message.attempts >= max(2, self._limits.attempts):
                reason = f"Its worker died in each of {message.attempts} attempts."
                scope = self._scopes[message.scope_id]
                self._bury(scope, scope.queue.popleft(), reason)
            else:
                message.attempts += 1
                self._isolated = message
                self._writes.tried[message.id] = message

    def _return_isolated(self) -> None:
        """Make the isolated message a suspect again if its partition is being released."""
        if (message := self._isolated) is None:
            return
        scope = self._scopes[message.scope_id]
        if scope.partition.is_releasing and scope.in_hand is not message:
            message.attempts -= 1  # it was not handed out
            message.is_suspect = True
            self._suspects[message.id] = self._writes.tried[message.id] = message
            self._isolated = None

    def _oldest_suspect(self) -> Message | None:
        for message in self._suspects.values():
            scope = self._scopes[message.scope_id]
            # Behind a message that is being retried, it would hold up the suspects of other scopes.
            if self._is_free(scope) and scope.queue[0] is message:
                return message
        return None
