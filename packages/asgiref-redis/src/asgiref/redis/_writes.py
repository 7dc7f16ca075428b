"""What a partition's applications have caused and Redis does not have yet: events and
acknowledgements.

They are one queue, in the order in which they arose: what a message caused is in Redis before the
message is acknowledged. A batch is taken from its front and stays there until it is known to be
written, so after a lost connection the same is sent again. Events are numbered from 1 for each
lease, which is how Redis recognises those that it has.

Applications wait here in two cases: for room, when many events wait (what belongs to them is in
memory only); and for their event to be written, when no message in hand stands for it.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import islice

from ._entries import Event
from ._errors import LeaseLost
from ._packing import packed

#: How many events of one partition may wait in a worker before applications wait too.
MANY_EVENTS = 1000
#: How many events and acknowledgements a batch has at most.
BATCH = 512


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes out next.

    Attributes:
        first: the number of its first event.
        events, ids: how many events it has, and how many ids to acknowledge.
        data: all of it, packed: five strings for each event, then the ids.
    """

    first: int
    events: int
    ids: int
    data: bytes


class Writes:
    """The queue of one partition."""

    __slots__ = ("_confirmations", "_events", "_out", "_queue", "_room", "_written")

    def __init__(self) -> None:
        self._queue: deque[Event | bytes] = deque()
        self._events = 0  # of those in the queue
        self._written = 0
        self._out: Batch | None = None
        self._confirmations: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._room: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._queue)

    def acknowledge(self, id: str) -> None:
        """An entry is finished."""
        self._queue.append(id.encode())

    def add(self, event: Event) -> None:
        """An application has sent something."""
        self._queue.append(event)
        self._events += 1

    @property
    def has_room(self) -> bool:
        return self._events < MANY_EVENTS

    async def room(self) -> None:
        """Wait until there may be room. Raises LeaseLost if there will be none."""
        future = asyncio.get_running_loop().create_future()
        self._room.append(future)
        await future

    async def all_written(self) -> None:
        """Wait until all events of now are written. Raises LeaseLost if they will not be."""
        future = asyncio.get_running_loop().create_future()
        self._confirmations.append((self._written + self._events, future))
        await future

    # On the way

    def next_batch(self) -> Batch:
        """What stands at the front, until `batch_written` or `batch_unknown` is called."""
        ids: list[bytes] = []
        strings: list[bytes] = []
        for each in islice(self._queue, BATCH):
            if isinstance(each, Event):
                mark = b"1" if each.redelivered else b""
                strings += (each.id, each.scope_id, each.scope, each.message, mark)
            else:
                ids.append(each)
        events = len(strings) // 5
        self._out = Batch(self._written + 1, events, len(ids), packed([*strings, *ids]))
        return self._out

    def batch_written(self) -> None:
        """Redis has it."""
        batch, self._out = self._out, None
        if batch is None:
            return
        for _ in range(batch.events + batch.ids):
            self._queue.popleft()
        self._events -= batch.events
        self._written += batch.events
        while self._confirmations and self._confirmations[0][0] <= self._written:
            _finish(self._confirmations.popleft()[1])
        if self._room and self.has_room:
            room, self._room = self._room, []
            for future in room:
                _finish(future)

    def batch_unknown(self) -> None:
        """Whether Redis has it is not known."""
        self._out = None

    def abandon(self, why: str) -> None:
        """Forget everything; who waits gets LeaseLost."""
        self._queue.clear()
        self._events = 0
        for future in (*self._room, *(future for _, future in self._confirmations)):
            if not future.done():
                future.set_exception(LeaseLost(why))
        self._room.clear()
        self._confirmations.clear()


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
