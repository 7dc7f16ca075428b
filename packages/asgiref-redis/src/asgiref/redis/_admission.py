"""Which lines may have a message with their application.

At most ``max_applications`` lines are busy, which means that an application of theirs has a message
or is offered one; others wait. So whenever an application has to go for another one, there is one
that rests, and none is evicted in the middle of a message.

A suspect (`_attempts`) also needs the turn, of which a worker has one: if the worker dies now, it
is this message that has killed it. Who has had the turn for as long as a lease passes it on to the
next suspect if there is one, and goes on, so one that takes long holds up no other for ever. But
in its last attempt it would become a dead letter for what the next one does: then it keeps the turn
ten times as long, and the attempt does not count from then on.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from ._line import BUSY, Line, LineState

#: How many times as long the turn may take in the last attempt.
LAST_ATTEMPT = 10


class Admission:
    """The lines of one worker that are busy, and those that wait to be.

    Args:
        most: gives how many may be busy.
        lease: seconds of a turn.
    """

    def __init__(self, most: Callable[[], int], lease: float) -> None:
        self._most = most
        self._busy = 0
        self._parked: deque[Line] = deque()
        self._filling: asyncio.Handle | None = None
        self._turn = Turn(lease, self.offer)

    @property
    def parked(self) -> int:
        """How many lines wait."""
        return len(self._parked) + len(self._turn.waiting)

    def offer(self, line: Line) -> None:
        """Admit a line that has a message, now or as soon as may be."""
        if line.is_suspect and not self._turn.take(line):
            return
        if self._parked or self._busy >= self._most():
            line.state = LineState.PARKED
            self._parked.append(line)
            self._fill_soon()
        else:
            self._busy += 1
            line.admitted()

    def withdrawn(self, line: Line) -> None:
        """A line is not busy any more: another one may be."""
        self._busy -= 1
        self._turn.leave(line)
        self._fill_soon()

    def _fill_soon(self) -> None:
        # Not at once: an application that asks for its next message would be evicted while it does.
        if self._parked and self._filling is None and self._busy < self._most():
            self._filling = asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = None
        while self._parked and self._busy < self._most():
            line = self._parked.popleft()
            if line.state is LineState.PARKED and line.partition.takes_new:
                self._busy += 1
                line.admitted()

    def forget(self, line: Line) -> None:
        """A line that is not busy does not wait any more."""
        self._turn.leave(line)


class Turn:
    """What one suspect has at a time.

    Attributes:
        waiting: the lines of the others.
    """

    def __init__(self, seconds: float, offer: Callable[[Line], None]) -> None:
        self._seconds = seconds
        self._offer = offer
        self._holder: Line | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.waiting: deque[Line] = deque()

    def take(self, line: Line) -> bool:
        """Whether the line has the turn from now on; otherwise it waits."""
        if self._holder is None:
            self._holder = line
            self._since = asyncio.get_running_loop().time()
        if self._holder is line:
            return True
        line.state = LineState.PARKED
        self.waiting.append(line)
        if self._timer is None:
            self._set_timer()
        return False

    def leave(self, line: Line) -> None:
        """A line has no message with its application any more."""
        if self._holder is line:
            self._pass_on()

    def _set_timer(self) -> None:
        assert self._holder is not None
        seconds = self._seconds * (LAST_ATTEMPT if self._holder.is_in_last_attempt else 1)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._since + seconds, self._too_long)

    def _too_long(self) -> None:
        self._timer = None
        holder = self._holder
        if holder is None:
            return
        if holder.state not in BUSY:  # it had to wait for something else: its time begins now
            self._since = asyncio.get_running_loop().time()
            self._set_timer()
            return
        if holder.is_in_last_attempt:
            holder.excuse()
        self._pass_on()

    def _pass_on(self) -> None:
        self._holder = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._holder is None and self.waiting:
            line = self.waiting.popleft()
            if line.state is LineState.PARKED and line.partition.takes_new:
                self._offer(line)
        if self.waiting and self._holder is not None and self._timer is None:
            self._set_timer()
