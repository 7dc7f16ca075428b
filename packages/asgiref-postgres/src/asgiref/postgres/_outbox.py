"""The messages that a process was given and that no transaction has stored yet.

Invariant: they are stored in their order, each once. After a commit whose reply was lost, a gateway
repeats the same batch under the same number, and the database stores it only if it does not know
that number. A worker forgets it instead: the messages that caused it will be redelivered.
"""

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass

from ._codec import PostgresServerError

#: A transaction of a gateway inserts at most so many messages and bytes.
_MAX_BATCH, _MAX_BATCH_SIZE = 500, 4 << 20
_MAX_KNOWN_SCOPES = 100_000


@dataclass(slots=True)
class Item:
    """A message to be inserted, and the future of the call that waits for its commit."""

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
    """Messages to be inserted.

    Args:
        max_items, max_size: how many messages and bytes may wait.
        is_repeating: whether a batch is repeated until its commit is known, as a gateway does.
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
        """Wait until a message may be added."""
        while self.is_full():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def add(self, item: Item) -> None:
        self._items.append(item)
        self._size += len(item.data)

    def next_batch(self) -> Batch:
        """Return the batch to insert: again the last one, if its commit is not known."""
        if not self._batch.items and self._items:
            items: list[Item] = []
            size = 0
            # A worker's transaction acknowledges messages, so it must hold all of their answers.
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
        """The transaction with ``batch`` has been committed."""
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
        """The next session may lead to another server, which may lack the last scopes."""
        self._known_scopes.clear()
        if self._batch.items:
            scopes = {i.scope_id: i.scope for i in self._batch.items if i.scope is not None}
            self._batch.scopes.update(scopes)

    def forget(self, error: PostgresServerError) -> None:
        """Store nothing of what waits; raise ``error`` in the calls that wait for a commit."""
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
