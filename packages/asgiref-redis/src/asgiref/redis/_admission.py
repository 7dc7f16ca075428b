"""Which lines may have a message with their application.

At most ``max_applications`` lines are busy, which means that an application of theirs has a message
or is offered one; others wait. So whenever an application has to go for another one, there is one
that rests, and none is evicted in the middle of a message.

What may have killed a worker (`_attempts`) also goes through a quarantine, of which a worker has
one. In it is either one suspect, or any number of those that are in doubt for the first time, never
both: or a suspect would have one attempt less for what another message does. The first ones go
before the suspects. Who is still there after as long as a lease goes on outside and makes room, so
one that takes long holds up no other for ever. But in its last attempt a suspect would become a
dead letter for what the next one does: then it stays ten times as long, and does not count from
then on.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from ._line import BUSY, Line, LineState

#: How many times as long the quarantine is in the last attempt.
LAST_ATTEMPT = 10


class Admission:
    """The lines of one worker that are busy, and those that wait to be.

    Args:
        most: gives how many may be busy.
        lease: seconds.
    """

    def __init__(self, most: Callable[[], int], lease: float) -> None:
        self._most = most
        self._busy = 0
        self._parked: deque[Line] = deque()
        self._filling: asyncio.Handle | None = None
        self._quarantine = Quarantine(lease, self.offer)

    @property
    def parked(self) -> int:
        """How many lines wait."""
        return len(self._parked) + self._quarantine.waiting

    def offer(self, line: Line) -> None:
        """Admit a line that has a message, now or as soon as may be."""
        if line.is_in_doubt and not self._quarantine.enter(line):
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
        self._quarantine.leave(line)
        self._fill_soon()

    def _fill_soon(self) -> None:
        # Not at once: an application that asks for its next message would be evicted while it does.
        if self._parked and self._filling is None and self._busy < self._most():
            self._filling = asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = None
        while self._parked and self._busy < self._most():
            line = self._parked.popleft()
            if line.may_be_admitted:
                self._busy += 1
                line.admitted()

    def forget(self, line: Line) -> None:
        """A line that is not busy does not wait any more."""
        self._quarantine.leave(line)


class Quarantine:
    """Those of a worker's lines whose messages may kill it."""

    def __init__(self, seconds: float, offer: Callable[[Line], None]) -> None:
        self._seconds = seconds
        self._offer = offer
        self._inside: set[Line] = set()
        self._suspect: Line | None = None  # the one inside, if it is one
        self._since = 0.0  # when the last one came
        self._timer: asyncio.TimerHandle | None = None
        self._doubtful: deque[Line] = deque()
        self._suspects: deque[Line] = deque()

    @property
    def waiting(self) -> int:
        """How many lines are not in it yet."""
        return len(self._doubtful) + len(self._suspects)

    def enter(self, line: Line) -> bool:
        """Whether the line is inside from now on; otherwise it waits."""
        if line in self._inside:
            return True
        is_suspect = line.is_suspect
        if self._suspect is None and not (self._inside and is_suspect):
            self._inside.add(line)
            self._suspect = line if is_suspect else None
            self._since = asyncio.get_running_loop().time()
            return True
        line.state = LineState.PARKED
        (self._suspects if is_suspect else self._doubtful).append(line)
        self._set_timer()
        return False

    def leave(self, line: Line) -> None:
        """A line has no message with its application any more."""
        if line in self._inside:
            self._inside.remove(line)
            if not self._inside:
                self._make_room()

    def _make_room(self) -> None:
        self._inside.clear()
        self._suspect = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        doubtful, self._doubtful = self._doubtful, deque()
        for line in doubtful:
            if line.may_be_admitted:
                self._offer(line)
        while self._suspects and not self._inside:
            line = self._suspects.popleft()
            if line.may_be_admitted:
                self._offer(line)
        if self._suspects:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._due(), self._look)

    def _due(self) -> float:
        is_last = self._suspect is not None and self._suspect.is_in_last_attempt
        return self._since + self._seconds * (LAST_ATTEMPT if is_last else 1)

    def _look(self) -> None:
        """Somebody waits: whether those inside have been there for long enough."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        if not any(line.state in BUSY for line in self._inside):
            self._since = now  # they wait for something else
        if now < self._due():
            self._set_timer()
            return
        if self._suspect is not None and self._suspect.is_in_last_attempt:
            self._suspect.excuse()
        self._make_room()
