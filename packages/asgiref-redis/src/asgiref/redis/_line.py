"""The line of one scope: its messages, one after the other.

    IDLE ── a message ──> OFFERED ── received ──> IN_HAND ── asks for more, returns ──> (next)
      └─> PARKED ── room ──┘ └─── the application fails ──┴──> FAILED ── time passes ──> (next)

Only the first message of the line is ever with the application: the next one goes into its queue
when it asks for that. So an application that fails, is cancelled or loses its partition leaves one
message, of which it is known whether the application has had it, and the others in their order.
A message is acknowledged on the way from IN_HAND, and nowhere else.

PARKED is a line whose application cannot be started, because as many as may are busy.
"""

import asyncio
import enum
from collections import deque
from typing import TYPE_CHECKING, Any

from ._entries import Entry

if TYPE_CHECKING:
    from ._partition import Partition


class LineState(enum.Enum):
    IDLE = "idle"
    PARKED = "parked"
    OFFERED = "offered"
    IN_HAND = "in hand"
    FAILED = "failed"


class Line:
    """The messages of one scope that this worker has read and not acknowledged.

    Attributes:
        scope: what its application is called with.
        scope_data: the same, as it came.
        queue: the input queue of its application; None until it is first used.
        trouble: what went wrong before the application received the first message.
    """

    __slots__ = (
        "_retry",
        "entries",
        "partition",
        "queue",
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
        self.sent: int = 0
        self.trouble: tuple[str, str] | None = None
        self._retry: asyncio.TimerHandle | None = None

    @property
    def in_hand(self) -> Entry | None:
        """The message that the application works on."""
        return self.entries[0] if self.state is LineState.IN_HAND else None

    def add(self, entry: Entry) -> None:
        """One more message."""
        self.entries.append(entry)
        if self.state is LineState.IDLE:
            self.partition.host.offer(self)

    def begin(self) -> dict[str, Any]:
        """The application receives the first message, which it was offered."""
        entry = self.entries[0]
        self.state = LineState.IN_HAND
        self.sent = 0
        self.trouble = None
        entry.begun = True
        self.partition.begun += 1
        return {**entry.message, "redelivered": True} if entry.redelivered else entry.message

    def finish(self) -> None:
        """The application is done with what it has in hand, if it has anything."""
        if self.state is LineState.IN_HAND:
            self._leave_hand()
            self.partition.acknowledge(self.entries.popleft())
            self.partition.host.count_handled()
            self._go_on()

    def fail(self, reason: str, trace: str) -> None:
        """The application has failed with the first message."""
        if self.state not in (LineState.OFFERED, LineState.IN_HAND):
            return
        entry = self.entries[0]
        if self.state is LineState.IN_HAND:
            self._leave_hand()
        else:
            self.partition.host.withdrawn(self)
        self.state = LineState.FAILED
        entry.attempts += 1
        self.partition.report_failure(entry, reason, trace, self)

    def failed(self, buried: bool) -> None:
        """The failure is written down; ``buried``: the message is now a dead letter."""
        entry = self.entries[0]
        if buried:
            self.entries.popleft()
            self._go_on()
        elif self.partition.takes_new:
            entry.redelivered = True
            delay = self.partition.settings.retry_delay * 2 ** min(entry.attempts - 1, 6)
            self._retry = asyncio.get_running_loop().call_later(delay, self._go_on)

    def cut(self) -> None:
        """Let go of everything: the partition ends."""
        if self._retry is not None:
            self._retry.cancel()
        if self.state is LineState.IN_HAND:
            self._leave_hand()
        elif self.state is LineState.OFFERED:
            self.partition.host.withdrawn(self)
        self.state = LineState.IDLE

    def _leave_hand(self) -> None:
        self.partition.begun -= 1
        self.partition.host.withdrawn(self)

    def _go_on(self) -> None:
        self.state = LineState.IDLE
        self._retry = None
        if not self.partition.takes_new:
            self.partition.line_rests(self)
        elif self.entries:
            self.partition.host.offer(self)
