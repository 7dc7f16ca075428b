"""Choose the next message of each scope, and the writes of the next transaction. No I/O.

A message is *held* from the read that returned it until the transaction that deletes its row, and
*in hand* while an application has it. Invariant: a scope has at most one message in hand, always
the oldest that is held; and every row of an owned partition is held, or *behind* (to be read
later, because its scope has reached its limit), or above the partition's mark.

When a reader dies, the rows it had read become *suspects*: one of them may have killed it. They
are given out one at a time, and each attempt is written before it starts. A reader that only lost
its session is still alive, so the rows it has *seen* before are merely redelivered.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from ._codec import CannotStart

#: The maximum number of rows of one partition that a read returns.
_MAX_ROWS = 500
#: The maximum number of messages of a scope that are handled but whose deletion is not yet written.
#: Only the first messages of a scope, this many and one more, can therefore have killed a reader.
_MAX_UNWRITTEN = 8


@dataclass(slots=True, eq=False)
class Message:
    """One row of the table of messages.

    Attributes:
        attempts: how often the message failed, or was given out after the death of a reader.
        redelivered: whether an application may have seen the message before.
        is_suspect: whether the message may have killed a reader, and must be given out alone.
    """

    partition: int
    id: int
    scope_id: str
    data: bytes
    attempts: int = 0
    redelivered: bool = False
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row that a read returned; its data is None if the read excluded its scope."""

    partition: int
    id: int
    scope_id: str
    data: bytes | None
    attempts: int
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a process holds at once, and when a message becomes a dead letter.

    Attributes:
        messages, size: the maximum for all scopes together, in messages and bytes.
        scope_messages, scope_size: the maximum for one scope. Once half of the total is used, each
            scope holds one message at a time, so that a few hundred slow scopes cannot use it all.
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
                raise CannotStart(f"The limit {each.name} must be at least {minimum}: {value!r}.")


@dataclass(slots=True)
class Writes:
    """The changes to messages that a transaction must write.

    Attributes:
        done: handled messages to delete.
        tried: messages whose attempts must be stored.
        dead: messages that become dead letters, with the reason.
    """

    done: list[Message] = field(default_factory=list[Message])
    tried: list[Message] = field(default_factory=list[Message])
    dead: list[tuple[Message, str]] = field(default_factory=list[tuple[Message, str]])

    def __bool__(self) -> bool:
        return bool(self.done or self.tried or self.dead)


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The part of a read for a scope that is behind: its rows from ``first`` to ``last``.

    It ends after ``limit`` rows, or with the row that brings the total to ``size`` bytes or more.
    """

    partition: int
    scope_id: str
    first: int
    last: int
    limit: int
    size: int
    known: list[int]


@dataclass(frozen=True, slots=True)
class Read:
    """The rows that a transaction must read: in each partition, unknown rows above the mark.

    Attributes:
        partitions, marks, cursors, limits: one entry for each partition. Only rows up to the
            cursor need a comparison with ``known``.
        size: the number of bytes after which the read of a partition ends.
        behind: scopes whose rows come back without data.
        catch_up: the ranges to read for scopes that are behind.
    """

    partitions: list[int]
    marks: list[int]
    cursors: list[int]
    limits: list[int]
    size: int
    known: list[int]
    behind: list[str]
    catch_up: list[CatchUp]


@dataclass(slots=True)
class _Scope:
    """The held messages of one scope.

    Attributes:
        behind: the range of ids of the messages that are not held.
        is_blocked: whether the scope waits for the time of a retry.
        unwritten: the number of messages that are handled but not yet deleted.
        suspects: the number of messages that were held as suspects.
    """

    partition: "_Partition"
    queue: deque[Message] = field(default_factory=deque[Message])
    in_hand: Message | None = None
    size: int = 0
    behind: tuple[int, int] | None = None
    is_blocked: bool = False
    unwritten: int = 0
    suspects: int = 0

    def count(self) -> int:
        return len(self.queue) + (self.in_hand is not None)

    def passed(self, id: int) -> None:
        first, last = self.behind or (id, id)
        self.behind = (min(first, id), max(last, id))


@dataclass(slots=True)
class _Partition:
    """The progress of reading one partition.

    Attributes:
        suspect: a reader that died may have given out rows up to this id.
        seen: rows up to this id may have been given out before.
        mark: every row up to this id has been read.
        cursor: the highest id that was read.
        candidate: the next mark, and the id below which every transaction must have ended before
            the mark moves; 0 while that id is unknown.
        known: ids above the mark that were read and may still be in the table.
        in_hand: the number of messages that applications have in hand.
    """

    number: int
    suspect: int
    seen: int
    mark: int = 0
    cursor: int = 0
    candidate: tuple[int, int] | None = None
    known: set[int] = field(default_factory=set[int])
    in_hand: int = 0
    is_releasing: bool = False
    scopes: dict[str, _Scope] = field(default_factory=dict[str, _Scope])


class Delivery:
    """The messages of one reader."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._partitions: dict[int, _Partition] = {}
        self._scopes: dict[str, _Scope] = {}
        self._held = 0
        self._size = 0
        self._ready: dict[str, None] = {}
        self._blocked: list[tuple[float, str]] = []
        self._writes = Writes()
        self._suspects: dict[int, Message] = {}
        self._isolated: Message | None = None
        self._is_isolated_written = False

    # Partitions

    @property
    def partitions(self) -> list[int]:
        """The owned partitions, including those being released."""
        return list(self._partitions)

    @property
    def held(self) -> int:
        """The number of held messages."""
        return self._held

    def acquire(self, partition: int, suspect: int, seen: int) -> None:
        """Start reading a partition.

        Args:
            partition: the partition's number.
            suspect: rows up to this id may have killed a reader.
            seen: rows up to this id may have been given out before; at least ``suspect``.
        """
        self._partitions[partition] = _Partition(partition, suspect, seen)

    def begin_release(self, partition: int) -> None:
        """Stop giving out messages of ``partition``."""
        self._partitions[partition].is_releasing = True

    def keep(self, partition: int) -> None:
        """Undo `begin_release`."""
        found = self._partitions[partition]
        found.is_releasing = False
        for scope_id in found.scopes:
            self._offer(scope_id)

    def in_hand(self, partition: int) -> int:
        """Return the number of messages of ``partition`` that are in hand."""
        return self._partitions[partition].in_hand

    def is_releasing(self, partition: int) -> bool:
        return self._partitions[partition].is_releasing

    def drop(self, partition: int) -> int:
        """Forget a partition; return the id up to which its rows are still suspects.

        Call this after a transaction has written everything, with no message in hand.
        """
        found = self._partitions.pop(partition)
        scopes = found.scopes
        left = found.mark < found.seen or any(
            any(message.id <= found.seen for message in scope.queue)
            or (scope.behind is not None and scope.behind[0] <= found.seen)
            for scope in scopes.values()
        )
        for scope_id, scope in scopes.items():
            self._held -= scope.count()
            self._size -= scope.size
            self._ready.pop(scope_id, None)
            for message in scope.queue:
                self._forget_suspect(message)
            del self._scopes[scope_id]
        return found.seen if left else 0

    # Reading

    def next_read(self) -> Read | None:
        """Return the next read, or None if there is no room for more messages."""
        reading = [each for each in self._partitions.values() if not each.is_releasing]
        room = self._limits.messages - self._held
        size = self._limits.size - self._size
        if not reading or room <= 0 or size <= 0:
            return None
        limit = max(1, min(room // len(reading), _MAX_ROWS))
        behind = [i for each in reading for i, s in each.scopes.items() if s.behind is not None]
        return Read(
            partitions=[each.number for each in reading],
            marks=[each.mark for each in reading],
            cursors=[each.cursor for each in reading],
            limits=[limit] * len(reading),
            size=max(1, size // len(reading)),
            known=[id for each in reading for id in each.known],
            behind=behind,
            catch_up=[catch_up for id in behind if (catch_up := self._catch_up(id)) is not None],
        )

    def _catch_up(self, scope_id: str) -> CatchUp | None:
        scope = self._scopes.get(scope_id)
        if scope is None or scope.behind is None or self._is_full(scope):
            return None
        # Wait for room of half the limit, so that a scope that is behind is read in batches.
        limit = self._scope_limit()
        room = limit - scope.count()
        if room * 2 < limit:
            return None
        held = [message.id for message in scope.queue]
        if scope.in_hand is not None:
            held.append(scope.in_hand.id)
        size = self._limits.scope_size - scope.size
        return CatchUp(scope.partition.number, scope_id, *scope.behind, room, size, held)

    def rows_read(self, read: Read, rows: Iterable[Row], xmin: int, own: int) -> bool:
        """Add the rows of a read; return whether the next read will certainly find more.

        Args:
            read: the read, as `next_read` returned it.
            rows: the rows, in order within each partition and each catch-up.
            xmin: the oldest transaction that was in flight when the read started.
            own: the id of the transaction that read, 0 if it has none.
        """
        forward: dict[int, list[Row]] = {}
        late: dict[str, list[Row]] = {}
        ranges = {each.scope_id: each for each in read.catch_up}
        behind = frozenset(read.behind)
        for row in rows:
            caught = ranges.get(row.scope_id)
            if caught is not None and row.data is not None:
                late.setdefault(row.scope_id, []).append(row)
            else:
                forward.setdefault(row.partition, []).append(row)
        for each in read.catch_up:
            self._caught_up(each, late.get(each.scope_id, []))
        more = any(self._catch_up(each.scope_id) is not None for each in read.catch_up)
        for number, limit in zip(read.partitions, read.limits, strict=True):
            partition = self._partitions[number]
            found = forward.get(number, [])
            for row in found:
                self._row(partition, row, row.scope_id in behind)
            size = sum(len(row.data) for row in found if row.data is not None)
            is_cut = len(found) >= limit or size >= read.size
            more = more or is_cut
            self._move_mark(partition, found[-1].id if is_cut else None, xmin, own)
        return more

    def _caught_up(self, catch_up: CatchUp, rows: list[Row]) -> None:
        scope = self._scopes[catch_up.scope_id]
        size = sum(len(row.data or b"") for row in rows)
        is_cut = len(rows) >= catch_up.limit or size >= catch_up.size
        scope.behind = (rows[-1].id + 1, catch_up.last) if is_cut else None
        for row in rows:
            if self._is_full(scope):  # other scopes have used the room meanwhile
                scope.behind = (row.id, catch_up.last)
                break
            self._hold(scope, row)
        self._offer(catch_up.scope_id)
        self._forget_if_empty(catch_up.scope_id, scope)

    def _row(self, partition: _Partition, row: Row, was_behind: bool) -> None:
        if row.id in partition.known:
            return
        partition.known.add(row.id)
        partition.cursor = max(partition.cursor, row.id)
        scope = self._scopes.get(row.scope_id)
        if scope is None:
            scope = self._scopes[row.scope_id] = _Scope(partition)
            partition.scopes[row.scope_id] = scope
        if row.data is None or was_behind or scope.behind is not None or self._is_full(scope):
            scope.passed(row.id)
            return
        self._hold(scope, row)
        self._offer(row.scope_id)

    def _hold(self, scope: _Scope, row: Row) -> None:
        assert row.data is not None
        partition = scope.partition
        is_suspect = row.id <= partition.suspect and scope.suspects <= _MAX_UNWRITTEN
        scope.suspects += is_suspect
        message = Message(
            row.partition,
            row.id,
            row.scope_id,
            row.data,
            row.attempts,
            row.redelivered or row.id <= partition.seen or row.attempts > 0,
            is_suspect,
        )
        scope.queue.append(message)
        scope.size += len(row.data)
        self._size += len(row.data)
        self._held += 1
        if is_suspect:
            self._suspects[message.id] = message

    def _is_full(self, scope: _Scope) -> bool:
        return scope.count() >= self._scope_limit() or scope.size >= self._limits.scope_size

    def _scope_limit(self) -> int:
        limits = self._limits
        taken = max(self._held / limits.messages, self._size / limits.size)
        if taken >= 1:
            return 0
        return 1 if taken >= 0.5 else limits.scope_messages

    @staticmethod
    def _move_mark(partition: _Partition, cut_at: int | None, xmin: int, own: int) -> None:
        if partition.candidate is not None:
            mark, since = partition.candidate
            # A truncated read may have left out rows below the candidate.
            if since and xmin >= since and (cut_at is None or cut_at >= mark):
                partition.mark = mark
                partition.known = {id for id in partition.known if id > mark}
                partition.candidate = None
            elif not since:
                # This transaction got its id after the candidate's read, so its id is above those
                # of all transactions in flight at that read.
                partition.candidate = (mark, own)
        if partition.candidate is None and partition.cursor > partition.mark:
            partition.candidate = (partition.cursor, 0)

    # Giving out

    def take_ready(self, now: float) -> list[str]:
        """Return the scopes that got a message to give out since the last call."""
        while self._blocked and self._blocked[0][0] <= now:
            scope_id = heapq.heappop(self._blocked)[1]
            if (scope := self._scopes.get(scope_id)) is not None:
                scope.is_blocked = False
            self._offer(scope_id)
        ready, self._ready = self._ready, {}
        return list(ready)

    def next_time(self) -> float | None:
        """Return the time of the next retry, or None if no retry is waiting."""
        return self._blocked[0][0] if self._blocked else None

    def next_message(self, scope_id: str) -> Message | None:
        """Return the next message of a scope, now in hand, or None."""
        scope = self._scopes.get(scope_id)
        if scope is None or not self._can_give(scope):
            return None
        message = scope.in_hand = scope.queue.popleft()
        scope.partition.in_hand += 1
        return message

    def _can_give(self, scope: _Scope) -> bool:
        if scope.in_hand is not None or scope.is_blocked or not scope.queue:
            return False
        if scope.partition.is_releasing or scope.unwritten >= _MAX_UNWRITTEN:
            return False
        head = scope.queue[0]
        return not head.is_suspect or (head is self._isolated and self._is_isolated_written)

    def partition_of(self, scope_id: str) -> int | None:
        """Return the partition of a scope that has messages."""
        scope = self._scopes.get(scope_id)
        return None if scope is None else scope.partition.number

    def idle_releases(self) -> list[int]:
        """Return the partitions that are being released and have nothing in hand."""
        return [
            each.number
            for each in self._partitions.values()
            if each.is_releasing and not each.in_hand
        ]

    def offer(self, scope_id: str) -> None:
        """Make `take_ready` return the scope again if it has a message to give out."""
        self._offer(scope_id)

    def _offer(self, scope_id: str) -> None:
        scope = self._scopes.get(scope_id)
        if scope is not None and self._can_give(scope):
            self._ready[scope_id] = None

    def owns(self, message: Message) -> bool:
        """Whether ``message`` is in hand; False once its partition was dropped."""
        scope = self._scopes.get(message.scope_id)
        return scope is not None and scope.in_hand is message

    def acknowledge(self, message: Message) -> None:
        """Acknowledge ``message``, which the application has handled."""
        if self._return(message):
            self._writes.done.append(message)
            self._forget(message)

    def fail(self, message: Message, reason: str, now: float) -> bool:
        """Record a failure with ``message``; return whether that made it a dead letter."""
        if not self._return(message):
            return False
        if not message.is_suspect:  # otherwise the attempt was counted when it started
            message.attempts += 1
        if message.attempts >= self._limits.attempts:
            self._bury(message, reason)
            return True
        self._requeue(message)
        scope = self._scopes[message.scope_id]
        doublings = min(message.attempts - 1, 20)
        scope.is_blocked = True
        delay = min(self._limits.retry_delay * 2.0**doublings, 60.0)
        heapq.heappush(self._blocked, (now + delay, message.scope_id))
        return False

    def put_back(self, message: Message) -> None:
        """Requeue ``message`` after a cancellation; the scope's next instance gets it."""
        if self._return(message):
            self._requeue(message)
            self._offer(message.scope_id)

    def discard(self, message: Message, reason: str) -> None:
        """Make ``message``, which must be in hand, a dead letter at once."""
        if self._return(message):
            self._bury(message, reason)

    def _return(self, message: Message) -> bool:
        scope = self._scopes.get(message.scope_id)
        if scope is None or scope.in_hand is not message:
            return False
        scope.in_hand = None
        scope.partition.in_hand -= 1
        return True

    def _requeue(self, message: Message) -> None:
        message.redelivered = True
        self._forget_suspect(message)
        message.is_suspect = False
        self._scopes[message.scope_id].queue.appendleft(message)
        self._writes.tried.append(message)

    def _bury(self, message: Message, reason: str) -> None:
        self._writes.dead.append((message, reason))
        self._forget(message)

    def _forget(self, message: Message) -> None:
        """Stop holding ``message``; the next transaction deletes its row."""
        scope = self._scopes[message.scope_id]
        scope.size -= len(message.data)
        self._size -= len(message.data)
        self._held -= 1
        scope.unwritten += 1
        self._forget_suspect(message)
        self._offer(message.scope_id)

    def _forget_if_empty(self, scope_id: str, scope: _Scope) -> None:
        if not scope.count() and scope.behind is None and not scope.unwritten:
            del self._scopes[scope_id]
            del scope.partition.scopes[scope_id]

    def _forget_suspect(self, message: Message) -> None:
        self._suspects.pop(message.id, None)
        if self._isolated is message:
            self._isolated = None
            self._is_isolated_written = False

    # Writing

    def take_writes(self) -> Writes:
        """Return the writes of the next transaction; call `written` after its commit."""
        self._isolate()
        writes, self._writes = self._writes, Writes()
        return writes

    def has_writes(self) -> bool:
        """Whether a transaction is needed, to write changes or to give out the next suspect."""
        return bool(self._writes) or (self._isolated is None and self._oldest_suspect() is not None)

    def written(self, writes: Writes) -> None:
        """Record that the transaction with ``writes`` was committed."""
        for message in (*writes.done, *(message for message, _ in writes.dead)):
            scope = self._scopes.get(message.scope_id)
            if scope is not None:  # otherwise its partition was dropped
                scope.partition.known.discard(message.id)
                scope.unwritten -= 1
                self._offer(message.scope_id)
                self._forget_if_empty(message.scope_id, scope)
        isolated = self._isolated
        if isolated is not None and isolated in writes.tried:
            self._is_isolated_written = True
            self._offer(isolated.scope_id)

    def _isolate(self) -> None:
        """Choose the next suspect; one that has used all its attempts becomes a dead letter."""
        while self._isolated is None:
            message = self._oldest_suspect()
            if message is None:
                return
            # The death that made it a suspect counts as an attempt of each message read then.
            message.attempts = max(message.attempts, 1)
            if message.attempts >= self._limits.attempts:
                self._scopes[message.scope_id].queue.popleft()
                self._bury(message, f"Its worker died in each of {message.attempts} attempts.")
            else:
                message.attempts += 1
                self._isolated = message
                self._writes.tried.append(message)

    def _oldest_suspect(self) -> Message | None:
        for message in self._suspects.values():
            scope = self._scopes[message.scope_id]
            if not scope.partition.is_releasing and scope.queue and scope.queue[0] is message:
                return message
        return None
