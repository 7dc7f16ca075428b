"""The messages of a process that no transaction has stored yet.

Invariant: the database stores them in order, each once. If the reply to a commit is lost, a gateway
sends the same batch again under the same number, and the database skips a number that it has
already stored. A worker forgets the batch instead, because the messages that caused it will be
redelivered.
"""

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass

from ._codec import PostgresServerError

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


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages that one transaction inserts, and the scopes that belong to them."""

    items: list[Item]
    scopes: dict[str, bytes]
    producer: uuid.UUID | None = None
    number: int = 0


EMPTY = Batch([], {})


class Outbox:
    """The queue of messages to insert.

    Args:
        max_items, max_size: how many messages and bytes may wait.
        is_repeating: whether to repeat a batch until its commit is known, as a gateway does.
    """

    def __init__(self, max_items: int, max_size: int, *, is_repeating: bool) -> None:
        self._max_items, self._max_size = max_items, max_size
        self._producer = uuid.uuid4() if is_repeating else None
        self._items: deque[Item] = deque()
        self._size = 0
        self._batch: Batch = EMPTY
        self._batches = 0
        self._known_scopes: dict[str, bytes] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._items) + len(self._batch.items)

    def is_full(self) -> bool:
        return len(self) >= self._max_items or self._size >= self._max_size

    async def room(self) -> None:
        """Wait until there is room for a message."""
        while self.is_full():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def add(self, item: Item) -> None:
        self._items.append(item)
        self._size += len(item.data)

    def next_batch(self) -> Batch:
        """Return the next batch, or the last one again if its commit is not known."""
        if not self._batch.items and self._items:
            items: list[Item] = []
            size = 0
            # A worker's transaction acknowledges messages, so it must insert all their answers.
            while self._items and (
                self._producer is None or (len(items) < _MAX_BATCH and size < _MAX_BATCH_SIZE)
            ):
                items.append(self._items.popleft())
                size += len(items[-1].data)
            self._batches += 1
            self._batch = Batch(items, self._new_scopes(items), self._producer, self._batches)
        return self._batch

    def _new_scopes(self, items: list[Item]) -> dict[str, bytes]:
        return {
            item.scope_id: item.scope
            for item in items
            if item.scope is not None and item.scope != self._known_scopes.get(item.scope_id)
        }

    def stored(self, batch: Batch) -> None:
        """Record that the transaction with ``batch`` was committed."""
        if not batch.items:
            return
        self._batch = EMPTY
        self._size -= sum(len(item.data) for item in batch.items)
        if len(self._known_scopes) > _MAX_KNOWN_SCOPES:
            self._known_scopes.clear()
        self._known_scopes.update(batch.scopes)
        for item in batch.items:
            if item.stored is not None and not item.stored.done():
                item.stored.set_result(None)
        self._wake()

    def session_lost(self) -> None:
        """Send every scope again: the next session may reach a server that lacks the last ones."""
        self._known_scopes.clear()
        if self._batch.items:
            scopes = {i.scope_id: i.scope for i in self._batch.items if i.scope is not None}
            self._batch.scopes.update(scopes)

    def forget(self, error: PostgresServerError) -> None:
        """Discard all queued messages; raise ``error`` in the calls that wait for a commit."""
        items = [*self._batch.items, *self._items]
        self._batch = EMPTY
        self._items.clear()
        self._size = 0
        for item in items:
            if item.stored is not None and not item.stored.done():
                item.stored.set_exception(error)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
