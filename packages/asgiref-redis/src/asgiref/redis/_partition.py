"""A partition that this worker holds, from the lease to its end.

    HELD ── `drain` ──> DRAINING ── `released` ──> RELEASED
      └──────────────────┴── the lease is over ──> LOST

What is written for the partition carries the lease. Redis refuses it once the lease is another's
(`_worker_scripts`); and here the partition is LOST at the time at which the lease may be over,
counted from before the request that renewed it. That comes first unless the process stands still.
With its end the partition's applications are stopped, and nothing more is written.

What goes to Redis and comes from there is in `_exchange`; the messages of each scope in `_line`.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from ._attempts import Attempts, Inheritance
from ._codec import MAX_ID, Malformed, checked, decode
from ._entries import Event
from ._errors import LeaseLost
from ._exchange import Exchange, Failure
from ._keys import GroupKeys
from ._line import Entry, Line, LineState
from ._settings import WorkerSettings

logger = logging.getLogger("asgiref.redis")

#: Seconds that writing the last of a partition may take before it is left to be redelivered.
FLUSH_SECONDS = 5.0


class State(enum.Enum):
    HELD = "held"
    DRAINING = "draining"
    RELEASED = "released"
    LOST = "lost"


class Host(Protocol):
    """What a partition and its lines need of their worker."""

    def mark(self, station: Any, /) -> None: ...
    def offer(self, line: Line, /) -> None: ...
    def withdrawn(self, line: Line, /) -> None: ...
    def forget(self, line: Line, /) -> None: ...
    def deliver(self, line: Line) -> None: ...
    def stop(self, partition: "Partition", scope_id: str) -> None: ...
    def count_handled(self) -> None: ...
    def count_failure(self, buried: bool) -> None: ...
    def count_redelivered(self) -> None: ...
    def ended(self, partition: "Partition", /) -> None: ...


class Partition:
    """One partition, and the lines of its scopes. Everything on the thread of the event loop.

    Attributes:
        lease: the value of its key: the fencing token and the worker's name there.
        token: the fencing token.
        inheritance: what the holders before this one have left.
        deadline: when the lease may be over, in seconds of the event loop's clock.
        begun: how many messages applications have in hand.
        pending, lag: what Redis said of it last.
    """

    def __init__(
        self,
        keys: GroupKeys,
        lease: str,
        inheritance: Inheritance,
        deadline: float,
        settings: WorkerSettings,
        host: Host,
    ) -> None:
        self.keys: GroupKeys = keys
        self.lease: str = lease
        self.token: int = int(lease.partition(":")[0])
        self.inheritance: Inheritance = inheritance
        self.deadline: float = deadline
        self.settings: WorkerSettings = settings
        self.host: Host = host
        self.state: State = State.HELD
        self.lines: dict[str, Line] = {}
        self.begun: int = 0
        self.pending: int = 0
        self.lag: int = 0
        self.was_lost_in_time: bool = False
        self._exchange = Exchange(keys, lease, settings, self)
        self._unsolicited = 0
        self._progress = asyncio.Event()

    @property
    def number(self) -> int:
        return self.keys.partition.number

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

    def look(self) -> None:
        """There may be something to read."""
        self._exchange.look()

    # What lines and runs say

    def acknowledge(self, entry: Entry) -> None:
        """The application has finished a message."""
        self._exchange.acknowledge(entry.id)
        self.host.count_handled()
        self._progress.set()

    def note(self, entry: Entry, line: Line | None = None) -> None:
        """Have it written down how often the entry was tried; ``line.noted`` is called then."""
        self._exchange.note(entry.id, entry.attempts, line)

    def report_failure(self, line: Line, is_last: bool, reason: str, trace: str) -> None:
        """Have it written down that an attempt with the line's first message has failed."""
        entry = line.entries[0]
        self._exchange.fail(Failure(entry.id, line, entry.attempts, is_last, reason, trace))
        self._progress.set()

    def run_ended(self, line: Line, run: object) -> None:
        """A line's application has ended: without a message, nothing need remember the scope."""
        if not line.entries and line.run is run and self.lines.get(line.scope_id) is line:
            del self.lines[line.scope_id]

    def line_rests(self, line: Line) -> None:
        """A line is done with a message, and gets no other one: the partition drains."""
        self._progress.set()
        asyncio.get_running_loop().call_soon(self.host.stop, self, line.scope_id)

    async def send(self, line: Line, run: object, message: object) -> None:
        """Take an event that a run of the line's application sends.

        It returns at once, unless too many wait; what belongs to no message in hand is only safe
        when it is written, so then it returns after that.
        """
        data = checked(self.settings.encode, "message", message, self.settings.max_size)
        writes = self._exchange.writes
        while not writes.has_room:
            self.check()
            await writes.room()
        self.check()
        entry = line.in_hand_of(run)
        if entry is not None:
            line.sent += 1
            name = f"{self.settings.group}/{self.number}/{entry.id}/{line.sent}"
        else:
            self._unsolicited += 1
            name = f"{self.settings.group}/{self.number}/{self.token}:{self._unsolicited}"
        redelivered = entry is not None and entry.redelivered
        self._exchange.send(
            Event(name.encode(), line.scope_id.encode(), line.scope_data, data, redelivered)
        )
        if entry is None:
            await writes.all_written()

    # What the exchange says

    def mark(self, exchange: Exchange) -> None:
        self.host.mark(exchange)

    def changed(self) -> None:
        self._progress.set()

    def receive(self, id: str, fields: dict[bytes, bytes]) -> None:
        """One entry has been read: give it to its line."""
        if not self.takes_new:
            return
        redelivered, attempts = self.inheritance.take(id)
        try:
            line = self._line_for(fields)
            message = decode(fields.get(b"m"), self.settings.max_size)
        except Malformed as error:
            reason = f"malformed: {error}"
            logger.error("Entry %s of partition %d is %s", id, self.number, reason)
            self._exchange.refuse(id, reason)
            return
        if redelivered:
            self.host.count_redelivered()
        line.add(Entry(id, message, redelivered, attempts))

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
            line = self.lines[scope_id] = Line(self, scope_id, self._scope(scope_id, data), data)
        return line

    def _scope(self, scope_id: str, data: bytes) -> dict[str, Any]:
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
        return scope

    def failure_written(self, failure: Failure) -> None:
        self.host.count_failure(failure.is_last)
        if failure.line is None:
            return
        if failure.is_last:
            self._log_dead_letter(failure.id, failure.attempts, failure.reason)
        failure.line.failed(failure.is_last)

    def _log_dead_letter(self, id: str, attempts: Attempts, reason: str) -> None:
        logger.error(
            "Entry %s of partition %d is a dead letter after %d attempts: %s",
            *(id, self.number, attempts.count, reason),
        )

    # The end

    async def drain(self, seconds: float) -> bool:
        """Let applications finish what they have in hand, and no more; then stop them.

        Returns:
            Whether nothing is left that an application has begun with.
        """
        self.state = State.DRAINING
        for line in list(self.lines.values()):
            if line.state is not LineState.IN_HAND:
                line.cut()
                self.host.stop(self, line.scope_id)
        if not await self._until(lambda: self.begun == 0, seconds):
            logger.warning("Partition %d: %d applications are cut off", self.number, self.begun)
        for line in list(self.lines.values()):
            self.host.stop(self, line.scope_id)
            line.cut()
        written = await self._until(lambda: self._exchange.is_done, FLUSH_SECONDS)
        return written and not any(
            entry.begun for line in self.lines.values() for entry in line.entries
        )

    async def _until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait so long; give whether it was reached, and the partition is still ours."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.is_ours and not reached():
                    self._progress.clear()
                    await self._progress.wait()
        return self.is_ours and reached()

    def released(self) -> None:
        """The lease is given back."""
        self._end(State.RELEASED)

    def lose(self, why: str) -> None:
        """The lease is over: stop the partition's applications at once, and write nothing more."""
        if self.is_ours:
            logger.warning("Partition %d is lost: %s", self.number, why)
            margin = 0.1 * self.settings.lease
            self.was_lost_in_time = asyncio.get_running_loop().time() < self.deadline + margin
            self._end(State.LOST)

    def _end(self, state: State) -> None:
        self.state = state
        for line in list(self.lines.values()):
            line.cut()
            self.host.stop(self, line.scope_id)
        self.lines.clear()
        self._exchange.abandon(f"Partition {self.number} was lost.")
        self._progress.set()
        self.host.ended(self)
