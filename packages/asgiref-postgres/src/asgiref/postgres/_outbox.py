"""The messages of a process that no transaction has stored yet.

Invariant: the database stores them in order, each once. If the reply to a commit is lost, a gateway
asks the database for the number of its last batch and, if necessary, sends that batch again. A
worker forgets the batch instead, because the messages that caused it will be redelivered.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from threading import Lock

from ._codec import SessionLost

#: The maximum number of messages and bytes that one gateway transaction inserts.
_MAX_BATCH, _MAX_BATCH_SIZE = 500, 4 << 20
_MAX_KNOWN_SCOPES = 100_000


@dataclass(slots=True)
class Item:
    """A message to insert, and the future of the call that waits for its commit."""

    scope_id: str
    data: bytes
    redelivered: bool = False
    scope: bytes | None = None
    stored: "asyncio.Future[None] | None" = None


@dataclass(slots=True)
class Batch:
    """The messages that one transaction inserts, with the scopes that the database lacks.

    A gateway's batches have a number; a worker's have none, and go to the gateway.
    """

    items: list[Item] = field(default_factory=list[Item])
    scopes: dict[str, bytes] = field(default_factory=dict[str, bytes])
    number: int | None = None


class Outbox:
    """The queue of messages to insert. Any thread may call `add`.

    Args:
        max_items, max_size: how many messages and bytes may wait.
        is_numbered: whether to limit and number batches, and repeat them, as a gateway does.
    """

    def __init__(self, max_items: int, max_size: int, *, is_numbered: bool) -> None:
        self._max_items, self._max_size = max_items, max_size
        self._is_numbered = is_numbered
        self._lock = Lock()
        self._items: deque[Item] = deque()
        self._size = self._batches = 0
        self._batch = Batch()
        self._known_scopes: dict[str, bytes] = {}
        self.is_confirmed: bool = not is_numbered
        self._waiting: list[asyncio.Future[None]] = []
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._items) + len(self._batch.items)

    def has_batch(self) -> bool:
        """Whether `next_batch` would return messages."""
        return self.is_confirmed and len(self) > 0

    def _is_full(self) -> bool:
        return len(self) >= self._max_items or self._size >= self._max_size

    def known_scope(self, scope_id: str) -> bytes | None:
        """Return the scope as this process last stored it, or None if that is not known."""
        return self._known_scopes.get(scope_id)

    async def room(self) -> None:
        """Wait until there is room for a message."""
        while self._is_full():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    async def put(self, item: Item) -> None:
        """Add a message; wait while there is no room.

        Raises:
            SessionLost: if the outbox is closed.
        """
        while True:
            await self.room()
            try:
                return self.add(item)
            except asyncio.QueueFull:  # another thread was faster
                continue

    def add(self, item: Item) -> None:
        """Add a message.

        Raises:
            asyncio.QueueFull: if there is no room.
            SessionLost: if the outbox is closed.
        """
        with self._lock:
            if self.is_closed:
                raise SessionLost("The gateway has stopped.")
            if self._is_full():
                raise asyncio.QueueFull
            self._items.append(item)
            self._size += len(item.data)

    def next_batch(self) -> Batch:
        """Return the next batch, or the last one again if it was not stored."""
        if not self.is_confirmed:
            return Batch()
        if not self._batch.items and self._items:
            items: list[Item] = []
            size = 0
            # A worker's transaction acknowledges messages, so it must insert all their answers.
            while self._items and not (
                self._is_numbered and (len(items) >= _MAX_BATCH or size >= _MAX_BATCH_SIZE)
            ):
                items.append(self._items.popleft())
                size += len(items[-1].data)
            self._batches += 1
            self._batch = Batch(items, {}, self._batches if self._is_numbered else None)
            self._add_scopes()
        return self._batch

    def _add_scopes(self) -> None:
        items, known = self._batch.items, self._known_scopes
        latest = {each.scope_id: each.scope for each in items if each.scope is not None}
        self._batch.scopes = {id: scope for id, scope in latest.items() if scope != known.get(id)}

    def stored(self, number: int | None) -> None:
        """Record that the last batch was stored, if ``number`` is its number."""
        batch = self._batch
        if not batch.items or batch.number != number:
            return
        self._batch = Batch()
        if len(self._known_scopes) > _MAX_KNOWN_SCOPES:
            self._known_scopes.clear()
        self._known_scopes.update(batch.scopes)
        self._remove(batch.items, None)

    def confirm(self, number: int) -> None:
        """Continue in a new session, given the number of the last batch that was stored."""
        self.stored(number)
        self.is_confirmed = True

    def session_lost(self) -> None:
        """Send every scope again: the next session may reach a server that lacks the last ones.

        A numbered outbox returns no batch before `confirm`: the last one may have been stored.
        """
        self.is_confirmed = not self._is_numbered
        self._known_scopes.clear()
        self._add_scopes()

    def forget(self, error: SessionLost) -> None:
        """Discard all messages; raise ``error`` in the calls waiting for a commit."""
        with self._lock:
            items = [*self._batch.items, *self._items]
            self._batch = Batch()
            self._items.clear()
        self._remove(items, error)

    def _remove(self, items: list[Item], error: SessionLost | None) -> None:
        with self._lock:
            self._size -= sum(len(item.data) for item in items)
        for item in items:
            _settle(item.stored, error)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            _settle(waiter, None)


def _settle(future: "asyncio.Future[None] | None", error: SessionLost | None) -> None:
    if future is not None and not future.done():
        future.set_result(None) if error is None else future.set_exception(error)
