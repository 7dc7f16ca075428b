"""The input queue of a scope: an ``asyncio.Queue`` that keeps no message for a dead application.

Servers hold on to the queue that they were given for a scope, some for one message, some for ever.
So the queue belongs to the scope, not to the application instance that happens to read from it:
when that one ends, the next instance for the same scope reads from the same queue, and what was put
before, meanwhile or by a waiting ``put`` stays in one order. Before each message goes in, the queue
tells its keeper, who sees to it that somebody is there to receive it.

Used only on the thread of the event loop.
"""

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ._instance import ApplicationInstance


class Keeper(Protocol):
    """Who is told of each message before it goes into a queue."""

    def before_put(self, queue: "InputQueue") -> None: ...


class InputQueue(asyncio.Queue[Any]):
    """What a scope's application has not received yet.

    Attributes:
        scope_id, scope: whose queue it is.
        instance: the instance that reads from it; None once that one has ended.
    """

    def __init__(self, maxsize: int, scope_id: Hashable, scope: object, keeper: Keeper) -> None:
        super().__init__(maxsize)
        self.scope_id = scope_id
        self.scope = scope
        self.instance: ApplicationInstance | None = None
        self._keeper = keeper
        self._readers: tuple[asyncio.Future[None], ...] = ()

    def _put(self, item: object) -> None:
        self._keeper.before_put(self)
        super()._put(item)
        if self._readers:
            readers, self._readers = self._readers, ()
            for reader in readers:
                if not reader.done():
                    reader.set_result(None)

    def next_put(self) -> asyncio.Future[None]:
        """A future that is done once something has been put; every reader is woken, and looks."""
        reader = asyncio.get_running_loop().create_future()
        if self._readers:
            waiting = [other for other in self._readers if not other.done()]
            self._readers = (*waiting, reader)
        else:
            self._readers = (reader,)
        return reader


def drained(queue: asyncio.Queue[Any]) -> list[Any]:
    """Everything that waited in ``queue``, which is empty afterwards."""
    return [queue.get_nowait() for _ in range(queue.qsize())]
