"""The line of one scope: its messages, one after the other.

    IDLE ── a message ──> OFFERED ── received ──> IN_HAND ── asks for more, returns ──> (next)
      ├─> PARKED ── admitted ──┘ └── the application fails ──┴──> FAILED ── time passes ──> (next)
      └─> BEGINNING ── noted ──┘

Only the first message of the line is ever with the application: the next one goes into its queue
when it asks for that. So an application that fails, is cancelled or loses its partition leaves one
message, of which it is known whether the application has had it, and the others in their order.
A message is acknowledged on the way from IN_HAND, and nowhere else.

PARKED is a line that is not admitted yet (`_admission`); BEGINNING one whose attempt is being
written down, because its message was given to an application before (`_attempts`).

An application that was cancelled may go on for a while, beside the one that was started after it.
So a message in hand is in the hand of one run (`_running`), and no other one can finish it, fail
it, or send in its name.
"""

import asyncio
import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._attempts import NONE, Attempts

if TYPE_CHECKING:
    from ._partition import Partition


@dataclass(slots=True, eq=False)
class Entry:
    """A message that this worker has read and not yet acknowledged.

    Attributes:
        id: its id in the stream.
        message: what the application will receive.
        redelivered: an application, here or elsewhere, may have seen it before.
        attempts: how often it was tried.
        begun: the application has it, or has had it, from this worker.
    """

    id: str
    message: dict[str, Any]
    redelivered: bool
    attempts: Attempts = NONE
    begun: bool = False


class LineState(enum.Enum):
    IDLE = "idle"
    PARKED = "parked"
    BEGINNING = "beginning"
    OFFERED = "offered"
    IN_HAND = "in hand"
    FAILED = "failed"


#: A line that counts among those that may have a message with their application.
BUSY = frozenset({LineState.BEGINNING, LineState.OFFERED, LineState.IN_HAND})


class Line:
    """The messages of one scope that this worker has read and not acknowledged.

    Attributes:
        scope: what its application is called with.
        scope_data: the same, as it came.
        queue: the input queue of its application; None until it is first used.
        run: the run of the application that was started last.
        trouble: what went wrong before the application received the first message.
    """

    __slots__ = (
        "_retry",
        "entries",
        "partition",
        "queue",
        "run",
        "scope",
        "scope_data",
        "scope_id",
        "sent",
        "state",
        "trouble",
    )

    def __init__(
        self, partition: "Partition", scope_id: str, scope: dict[str, Any], scope_data: bytes
    ) -> None:
        self.partition: Partition = partition
        self.scope_id: str = scope_id
        self.scope: dict[str, Any] = scope
        self.scope_data: bytes = scope_data
        self.entries: deque[Entry] = deque()
        self.state: LineState = LineState.IDLE
        self.queue: asyncio.Queue[Any] | None = None
        self.run: object = None
        self.sent: int = 0
        self.trouble: tuple[str, str] | None = None
        self._retry: asyncio.TimerHandle | None = None

    def in_hand_of(self, run: object) -> Entry | None:
        """The message that this run works on."""
        return self.entries[0] if self.state is LineState.IN_HAND and self.run is run else None

    @property
    def may_be_admitted(self) -> bool:
        """Whether it still waits for that."""
        return self.state is LineState.PARKED and self.partition.takes_new

    @property
    def is_in_doubt(self) -> bool:
        """Whether the first message was, or may have been, in hand when a worker died."""
        return self.entries[0].attempts.deaths > 0

    @property
    def is_suspect(self) -> bool:
        """Whether it was at more than one such death."""
        return self.entries[0].attempts.are_suspect(self.partition.settings.failures)

    @property
    def is_in_last_attempt(self) -> bool:
        """Whether its first message is a dead letter if this attempt, or the next one, fails."""
        attempts, limit = self.entries[0].attempts, self.partition.settings.failures
        return attempts.count >= limit if self.state in BUSY else attempts.is_next_last(limit)

    # To the application

    def add(self, entry: Entry) -> None:
        """One more message."""
        self.entries.append(entry)
        if self.state is LineState.IDLE:
            self._go_on()

    def admitted(self) -> None:
        """It may have its first message with its application: it is busy."""
        entry = self.entries[0]
        if entry.redelivered:
            self.state = LineState.BEGINNING
            entry.attempts = entry.attempts.begun_by(self.partition.settings.name)
            self.partition.note(entry, self)
        else:
            self._offer()

    def noted(self) -> None:
        """That its attempt begins is written down."""
        if self.state is LineState.BEGINNING:
            self._offer()

    def _offer(self) -> None:
        self.state = LineState.OFFERED
        self.partition.host.deliver(self)

    def begin(self, run: object) -> dict[str, Any]:
        """The application receives the first message, which it was offered."""
        entry = self.entries[0]
        self.state = LineState.IN_HAND
        self.run = run
        self.sent = 0
        self.trouble = None
        entry.begun = True
        self.partition.begun += 1
        return {**entry.message, "redelivered": True} if entry.redelivered else entry.message

    # From the application

    def finish(self, run: object) -> None:
        """A run is done with what it has in hand, if it has anything."""
        if self.state is LineState.IN_HAND and self.run is run:
            entry = self.entries.popleft()
            self.partition.acknowledge(entry)
            self._leave()
            self._go_on()

    def fail(self, reason: str, trace: str) -> None:
        """The application has failed with the first message."""
        if self.state not in (LineState.OFFERED, LineState.IN_HAND):
            return
        entry = self.entries[0]
        entry.attempts = entry.attempts.failed()
        self._leave(LineState.FAILED)
        is_last = entry.attempts.count >= self.partition.settings.failures
        self.partition.report_failure(self, is_last, reason, trace)

    def failed(self, buried: bool) -> None:
        """The failure is written down; ``buried``: the message is now a dead letter."""
        entry = self.entries[0]
        if buried:
            self.entries.popleft()
            self._go_on()
        elif self.partition.takes_new:
            entry.redelivered = True
            delay = self.partition.settings.retry_delay * 2 ** min(entry.attempts.count - 1, 6)
            self._retry = asyncio.get_running_loop().call_later(delay, self._go_on)

    def excuse(self) -> None:
        """What happens from now on is not the fault of the message in hand, as far as is known."""
        entry = self.entries[0]
        entry.attempts = entry.attempts.taken_back()
        self.partition.note(entry)

    def cut(self) -> None:
        """Let go of everything: the partition ends, or the process."""
        if self._retry is not None:
            self._retry.cancel()
        for entry in self.entries:
            entry.redelivered = entry.redelivered or entry.begun
        if self.state in BUSY:
            self._leave()
        else:
            self.partition.host.forget(self)
        self.state = LineState.IDLE

    def _leave(self, state: LineState = LineState.IDLE) -> None:
        """It is busy no more. (The state first: who gets its place may have to evict somebody.)"""
        before, self.state = self.state, state
        if before is LineState.IN_HAND:
            self.partition.begun -= 1
        self.partition.host.withdrawn(self)

    def _go_on(self) -> None:
        self.state = LineState.IDLE
        self._retry = None
        if not self.partition.takes_new:
            self.partition.line_rests(self)
        elif self.entries:
            attempts = self.entries[0].attempts
            if attempts.worker and attempts.are_over(self.partition.settings.failures):
                self.state = LineState.FAILED
                self.partition.report_failure(self, True, attempts.epitaph(), "")
            else:
                self.partition.host.offer(self)
