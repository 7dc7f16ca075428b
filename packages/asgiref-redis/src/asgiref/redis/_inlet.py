"""The messages of one partition on their way into its incoming stream.

They are numbered, and stay here until Redis has said up to which number it has everything: what is
sent again after a lost answer is appended once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from ._client import Call
from ._gate import Gate, GateHost, Identity
from ._keys import PartitionKeys
from ._packing import packed
from ._scripts import APPEND
from ._settings import BATCH


@dataclass(slots=True, eq=False)
class Item:
    """A message on its way into a stream. ``stored`` is done when it is there."""

    scope_id: bytes
    scope: bytes
    message: bytes
    stored: "asyncio.Future[None] | None"

    @property
    def size(self) -> int:
        return len(self.scope) + len(self.message)


class Inlet(Gate):
    """Appends. ``left`` is called with each message that Redis has."""

    def __init__(
        self,
        keys: PartitionKeys,
        identity: Identity,
        host: GateHost,
        left: Callable[[Item], None],
        *,
        is_open: bool,
    ) -> None:
        super().__init__(keys, identity, host, is_open=is_open)
        self._left = left
        self._items: deque[Item] = deque()
        self._first = 1
        self._sent = 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._host.mark(self)

    def drained(self) -> list[Item]:
        """Everything that is not known to be in the stream; it is forgotten here."""
        items = list(self._items)
        self._items.clear()
        return items

    def _call(self) -> Call | None:
        if not self._items:
            return None
        strings: list[bytes] = []
        for item in islice(self._items, BATCH):
            strings += (item.scope_id, item.scope, item.message)
        self._sent = len(strings) // 3
        return Call(
            APPEND,
            (self.keys.incoming, self.keys.gate),
            (
                *self._identity.words,
                *(self._first, self._identity.settings.stream_limit, packed(strings)),
            ),
        )

    def _done(self, answer: int) -> None:
        stored = answer + 1 - self._first
        for _ in range(min(stored, len(self._items))):
            self._left(self._items.popleft())
        self._first += max(0, stored)
        if stored < self._sent:
            self._later()
        elif self._items:
            self._host.mark(self)
