"""The input queue of a scope: an ``asyncio.Queue`` that keeps no message for a dead application.

Servers hold on to the queue that they were given for a scope, some for one message, some for ever.
So the queue belongs to the scope, not to the application instance that happens to read from it:
when that one ends, the next instance for the same scope reads from the same queue, and what was put
before, meanwhile or by a waiting ``put`` stays in one order. Before each message goes in, the queue
tells so (``before_put``), and whoever listens sees to it that somebody is there to receive it.

Used only on the thread of the event loop.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._instance import ApplicationInstance

BeforePut = Callable[["InputQueue"], None]


class InputQueue(asyncio.Queue[Any]):
    """What a scope's application has not received yet.

    Attributes:
        scope_id, scope: whose queue it is.
        instance: the instance that reads from it; None once that one has ended.
        taken: how many messages have ever been received from it.
    """

    def __init__(
        self, maxsize: int, scope_id: Hashable, scope: object, before_put: BeforePut
    ) -> None:
        super().__init__(maxsize)
        self.scope_id = scope_id
        self.scope = scope
        self.instance: ApplicationInstance | None = None
        self.taken = 0
        self._before_put = before_put

    def _put(self, item: object) -> None:
        self._before_put(self)
        super()._put(item)

    def _get(self) -> Any:
        self.taken += 1
        return super()._get()

    def drain(self) -> list[Any]:
        """Take out everything that is waiting; none of it counts as received."""
        messages: list[Any] = []
        taken = self.taken
        while not self.empty():
            messages.append(self.get_nowait())
        self.taken = taken
        return messages
