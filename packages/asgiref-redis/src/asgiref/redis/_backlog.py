"""The messages of a gateway that Redis does not have yet, and whoever waits for them.

    EARLY ── open ──> OPEN ── close ──> CLOSED ── end ──> ENDED ── begin ──> EARLY
      └───────────────── (a run that fails) ────────────────┘

EARLY, before a gateway runs, messages are kept here; then they go on to the inlets, and are only
counted here until they have left those. CLOSED takes nothing new, while what is there still goes.
ENDED has nothing: who waits for a message to be stored, for room or for all to be stored learns
that it will not be, and who comes later is refused at once. So nobody waits for what cannot happen.

Everything happens on the thread of the event loop; `take` comes there from other threads.
"""

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ._errors import ConnectionTaken, RedisServerError
from ._inlet import Item

logger = logging.getLogger("asgiref.redis")


class Home(Protocol):
    """The server's thread, as others see it."""

    def is_elsewhere(self) -> bool: ...
    def call(self, function: Callable[..., None], *args: object) -> None: ...


class _State(enum.Enum):
    EARLY = "early"
    OPEN = "open"
    CLOSED = "closed"
    ENDED = "ended"


class Backlog:
    """What a gateway has taken and Redis has not.

    Args:
        messages: how many may wait.
        size: how many bytes they may have.
        encode: turns a message into bytes, or raises TypeError or ValueError.
        home: gives the server's thread; None if all is on one.

    Attributes:
        waiting: how many messages wait.
    """

    def __init__(
        self,
        messages: int,
        size: int,
        encode: Callable[[Any], bytes],
        home: Callable[[], Home | None],
    ) -> None:
        self._most = messages
        self._most_size = size
        self._encode = encode
        self._home = home
        self._state = _State.EARLY
        self._running = False
        self._why: RedisServerError | None = None
        self._lost = 0
        self._early: deque[Item] = deque()
        self._accept: Callable[[Item], None] = self._early.append
        self._rooms: list[asyncio.Future[None]] = []
        self._joiners: list[asyncio.Future[None]] = []
        self.waiting: int = 0
        self._waiting_size = 0

    # What queues and `store` ask for

    def is_full(self) -> bool:
        return self.waiting >= self._most or self._waiting_size >= self._most_size

    def take(self, scope_id: bytes, scope: bytes, message: Any) -> None:
        """Take a message; may be called on threads of the server.

        Raises:
            asyncio.QueueFull: if there is no room.
            RedisServerError: if the gateway has ended; others as ``encode``.
        """
        home = self._home()
        if home is not None and home.is_elsewhere():
            return home.call(self.take, scope_id, scope, message)
        self._check()
        if self.is_full():
            raise asyncio.QueueFull
        self._add(scope_id, scope, message, None)

    async def store(self, scope_id: bytes, scope: bytes, message: Any) -> None:
        """Take a message when there is room, and return when Redis has it. Raises as `take`."""
        while self.is_full():
            await self.room()
        stored = asyncio.get_running_loop().create_future()
        self._add(scope_id, scope, message, stored)
        await stored

    def _add(
        self, scope_id: bytes, scope: bytes, message: Any, stored: "asyncio.Future[None] | None"
    ) -> None:
        self._check()
        item = Item(scope_id, scope, self._encode(message), stored)
        self.waiting += 1
        self._waiting_size += item.size
        self._accept(item)

    def _check(self) -> None:
        if self._state is _State.CLOSED or self._state is _State.ENDED:
            raise self._refusal("it takes no messages.")

    def _refusal(self, what: str) -> RedisServerError:
        kind = type(self._why) if isinstance(self._why, ConnectionTaken) else RedisServerError
        return kind(f"The gateway has ended: {what if self._why is None else self._why}")

    async def room(self) -> None:
        """Wait until there may be room. Raises RedisServerError if there never will."""
        self._check()
        await self._next(self._rooms)

    async def all_stored(self) -> None:
        """Wait until Redis has everything. Raises RedisServerError if it will not."""
        while self.waiting:
            await self._next(self._joiners)
        if self._lost:
            raise self._refusal(f"{self._lost} messages were not stored.")

    async def _next(self, waiters: "list[asyncio.Future[None]]") -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        await waiter

    # What the gateway says

    def begin(self) -> None:
        """A run begins. Raises RedisServerError if there is one."""
        if self._running:
            raise RedisServerError("The gateway runs already.")
        self._running = True
        if self._state is _State.ENDED:
            self._state, self._why, self._lost = _State.EARLY, None, 0

    def open(self, accept: Callable[[Item], None]) -> None:
        """Pass on what is here and what will be."""
        self._state, self._accept = _State.OPEN, accept
        while self._early:
            accept(self._early.popleft())

    def left(self, item: Item) -> None:
        """Redis has a message."""
        self._forget(item)
        if item.stored is not None and not item.stored.done():
            item.stored.set_result(None)
        if self._rooms:
            _wake(self._rooms)
        if not self.waiting and self._joiners:
            _wake(self._joiners)

    def close(self, why: RedisServerError | None = None) -> None:
        """Take nothing more."""
        if self._state is not _State.ENDED:
            self._state = _State.CLOSED
        self._why = self._why or why
        _wake(self._rooms)

    def end(self, left: Iterable[Item] = ()) -> None:
        """Give up what is ``left``: nothing is stored any more. May be called again."""
        self.close()
        self._state = _State.ENDED
        lost = [*self._early, *left]
        self._early.clear()
        self._accept = self._early.append
        if lost:
            logger.error("%d messages were not stored before the end", len(lost))
        self._lost += len(lost)
        for item in lost:
            self._forget(item)
            if item.stored is not None and not item.stored.done():
                item.stored.set_exception(self._refusal("Redis did not get the message."))
        _wake(self._joiners)

    def finish(self, why: RedisServerError | None) -> None:
        """The run is over."""
        self.close(why)
        self.end()
        self._running = False

    def _forget(self, item: Item) -> None:
        self.waiting -= 1
        self._waiting_size -= item.size


def _wake(waiters: "list[asyncio.Future[None]]") -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
