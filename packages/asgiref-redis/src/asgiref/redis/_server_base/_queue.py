"""The input queue of a scope: an ``asyncio.Queue`` that keeps no message for a dead application.

Servers hold on to the queue that they were given for a scope, some for one message, some for ever.
So the queue belongs to the scope, not to the application instance that happens to read from it:
when that one ends, the next instance for the same scope reads from the same queue, and what was put
before, meanwhile or by a waiting ``put`` stays in one order. Before each message goes in, the queue
tells its keeper, who sees to it that somebody is there to receive it.

It is an ``asyncio.Queue`` by type and by what its methods do, and uses nothing of that class's: an
``asyncio.Queue`` makes four deques, which take 3 kB of the 5.5 kB that an idle scope cost, and most
of the time of an eviction. Here everything is made when it is first needed, and messages are let go
of together with what held them.

Used on the thread of the event loop. ``put_nowait`` may be called from other threads as well while
a server with synchronous methods runs (see ``_home``).
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ._home import Home

if TYPE_CHECKING:
    from ._instance import ApplicationInstance


#: So many messages wait in a list, more in a deque. Mostly one message waits, and a list for one
#: message is made and let go of in 0.1 µs, a deque in 0.3 µs, of the 5 µs that a message takes.
_FEW = 8


class Keeper(Protocol):
    """Who is told of each message before it goes into a queue."""

    home: Home | None

    def before_put(self, queue: "InputQueue") -> None: ...


class InputQueue(asyncio.Queue[Any]):
    """What a scope's application has not received yet.

    Attributes:
        scope_id, scope: whose queue it is.
        items: the messages; None when there are none.
        instance: the instance that reads from it; None once that one has ended.
        sending: orders what the scope sends, if ``application_send`` is a plain function.
    """

    __slots__ = (
        "_joiners",
        "_keeper",
        "_limit",
        "_putters",
        "_readers",
        "_unfinished",
        "instance",
        "items",
        "scope",
        "scope_id",
        "sending",
    )

    def __init__(self, maxsize: int, scope_id: Hashable, scope: object, keeper: Keeper) -> None:
        self.scope_id: Hashable = scope_id
        self.scope: object = scope
        self.instance: ApplicationInstance | None = None
        self.sending: asyncio.Lock | None = None
        self._keeper = keeper
        self._limit = maxsize
        self.items: list[Any] | deque[Any] | None = None
        self._readers: tuple[asyncio.Future[None], ...] = ()
        self._putters: deque[asyncio.Future[None]] | None = None
        self._joiners: tuple[asyncio.Future[None], ...] = ()
        self._unfinished = 0

    def __repr__(self) -> str:
        return f"<InputQueue of {self.scope_id!r}, {self.qsize()} waiting>"

    @property
    def maxsize(self) -> int:
        return self._limit

    def qsize(self) -> int:
        return 0 if self.items is None else len(self.items)

    def empty(self) -> bool:
        return self.items is None

    def full(self) -> bool:
        return 0 < self._limit <= self.qsize()

    # In

    def put_nowait(self, item: object) -> None:
        home = self._keeper.home
        if home is not None and home.is_elsewhere():
            return home.call(self.put_nowait, item)
        if self._limit and self.full():
            raise asyncio.QueueFull
        self._keeper.before_put(self)
        self._unfinished += 1
        items = self.items
        if items is None:
            self.items = [item]
        else:
            if len(items) == _FEW and isinstance(items, list):
                items = self.items = deque(items)
            items.append(item)
        if self._readers:
            readers, self._readers = self._readers, ()
            for reader in readers:
                if not reader.done():
                    reader.set_result(None)

    async def put(self, item: object) -> None:
        while self.full():
            await self._room()
        try:
            self.put_nowait(item)
        except BaseException:
            self._wake_putter()  # the room that this one does not take is the next one's
            raise

    async def _room(self) -> None:
        """Wait until there may be room, after those who already wait."""
        putter = asyncio.get_running_loop().create_future()
        if self._putters is None:
            self._putters = deque()
        self._putters.append(putter)
        try:
            await putter
        except asyncio.CancelledError:
            if not putter.cancelled() and not self.full():
                self._wake_putter()  # likewise
            raise

    def _wake_putter(self) -> None:
        while self._putters:
            putter = self._putters.popleft()
            if not putter.done():
                putter.set_result(None)
                return
        self._putters = None

    # Out

    def get_nowait(self) -> Any:
        items = self.items
        if items is None:
            raise asyncio.QueueEmpty
        item = items.pop(0) if isinstance(items, list) else items.popleft()
        if not items:
            self.items = None
        if self._putters is not None:
            self._wake_putter()
        return item

    async def get(self) -> Any:
        while self.items is None:
            await self.next_put()
        return self.get_nowait()

    def next_put(self) -> asyncio.Future[None]:
        """A future that is done once something has been put; every reader is woken, and looks."""
        reader = asyncio.get_running_loop().create_future()
        self._readers = (*self._waiting_readers(), reader) if self._readers else (reader,)
        return reader

    def cancel_readers(self) -> None:
        """Cancel whoever waits in `next_put`."""
        readers, self._readers = self._readers, ()
        for reader in readers:
            reader.cancel()

    def has_readers(self) -> bool:
        """Whether somebody waits in `next_put`."""
        return bool(self._waiting_readers())

    def _waiting_readers(self) -> list[asyncio.Future[None]]:
        return [reader for reader in self._readers if not reader.done()]

    # Done

    def task_done(self) -> None:
        if self._unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self._unfinished -= 1
        if self._unfinished == 0:
            joiners, self._joiners = self._joiners, ()
            for joiner in joiners:
                if not joiner.done():
                    joiner.set_result(None)

    async def join(self) -> None:
        while self._unfinished:
            joiner = asyncio.get_running_loop().create_future()
            self._joiners = (*self._joiners, joiner)
            await joiner

    def shutdown(self, immediate: bool = False) -> NoReturn:
        """Not here: the scope is what ends, and takes new messages when it begins again."""
        raise NotImplementedError(
            f"The queue of scope {self.scope_id!r} cannot be shut down: call "
            "delete_application_instance instead."
        )


def drained(queue: asyncio.Queue[Any]) -> list[Any]:
    """Everything that waited in ``queue``, which is empty afterwards."""
    return [queue.get_nowait() for _ in range(queue.qsize())]
