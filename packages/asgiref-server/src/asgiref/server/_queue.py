"""The input queue of a scope.

It is an ``asyncio.Queue`` that never leaves messages behind with an application that has ended.

A server may keep a scope's queue for as long as it runs. So the queue belongs to the scope, not to
an instance: when an instance ends, the next one reads from the same queue, in order. Before the
queue accepts a message, it asks its `Instances` to start an instance if none is live. If that
fails, the queue is unchanged.

The class is an ``asyncio.Queue`` by type and behaves like one, but shares no state with it: the
four deques of an ``asyncio.Queue`` take 3 kB of the 5.5 kB that an idle scope costs in asgiref.
Here each container is created when it is first needed.
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, NoReturn

from ._loop import safe_repr


@dataclass(slots=True, eq=False, repr=False)
class InputQueue(asyncio.Queue[Any]):
    """The messages that a scope's application has not yet received."""

    # asyncio has a property of this name, which would become the default value without `field`.
    maxsize: int = field()  # pyright: ignore[reportIncompatibleMethodOverride]
    scope_id: Hashable
    scope: object
    #: The `Instances` of the server, whose module imports this one.
    instances: Any
    #: The task of the live instance, which reads from the queue; None if no instance is live.
    live: "asyncio.Future[Any] | None" = None
    #: The task that runs the application for the scope: the live instance's, or that of a cancelled
    #: instance that the live one waits for.
    runner: "asyncio.Future[Any] | None" = None
    #: The messages: usually at most one, which is faster in a tuple than in a deque (0.3 µs).
    items: tuple[Any] | deque[Any] | None = None
    _waiters: "tuple[asyncio.Future[None], ...]" = ()
    #: The calls to ``put`` that wait for room. Only one at a time resumes, as there may be many.
    _putters: "deque[asyncio.Future[None]] | None" = None

    def __repr__(self) -> str:
        return f"<InputQueue of {safe_repr(self.scope_id)}, {self.qsize()} waiting>"

    __str__ = __repr__  # asyncio's `__str__` reads private state that this class lacks

    def qsize(self) -> int:
        return len(self.items or ())

    def empty(self) -> bool:
        return self.items is None

    def full(self) -> bool:
        return 0 < self.maxsize <= self.qsize()

    def changed(self) -> "asyncio.Future[None]":
        """Return a future that is done after the next `wake`."""
        waiter: asyncio.Future[None] = asyncio.Future()
        others = self._waiters and tuple(each for each in self._waiters if not each.done())
        self._waiters = (*others, waiter) if others else (waiter,)
        return waiter

    def wake(self) -> None:
        """Report a message, a free turn, or the end of an instance."""
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            _resume(waiter)

    def is_drained(self) -> bool:
        """Whether a receiver is waiting for a message and none is queued."""
        return self.items is None and not all(each.done() for each in self._waiters)

    def put_nowait(self, item: object) -> None:
        instances = self.instances
        if instances.thread_id != get_ident() and instances.is_elsewhere():
            instances.call(self.put_nowait, item)
            return
        if self.maxsize and self.full():
            raise asyncio.QueueFull
        if self.live is None and not instances.start_for(self, item):
            return
        instances.order.move_to_end(self.scope_id)
        items = self.items
        if items is None:
            self.items = (item,)
        elif isinstance(items, tuple):
            self.items = deque((*items, item))
        else:
            items.append(item)
        if self._waiters:
            self.wake()

    async def put(self, item: object) -> None:
        try:
            while self.full():
                waiter: asyncio.Future[None] = asyncio.Future()
                putters = self._putters = self._putters or deque()
                putters.append(waiter)
                try:
                    await waiter
                finally:
                    putters.remove(waiter)
            self.put_nowait(item)
        finally:
            self._resume_putter()  # this call has used no room if it was cancelled, or failed

    def _resume_putter(self) -> None:
        if self._putters and not self.full():
            any(map(_resume, self._putters))

    def get_nowait(self) -> Any:
        items = self.items
        if items is None:
            raise asyncio.QueueEmpty
        if isinstance(items, tuple):
            item, self.items = items[0], None
        else:
            item, self.items = items.popleft(), items or None
        if self._putters:
            self._resume_putter()
        return item

    async def get(self) -> Any:
        while self.items is None:
            await self.changed()
        return self.get_nowait()

    # The server decides how long the queue lives, and never marks a message as done.

    def shutdown(self, immediate: bool = False) -> NoReturn:
        """Raise NotImplementedError: the queue outlives its instances."""
        raise NotImplementedError(
            f"The queue of scope {safe_repr(self.scope_id)} belongs to the server, and cannot be "
            "shut down or joined: call delete_application_instance instead."
        )

    def task_done(self) -> NoReturn:
        self.shutdown()

    async def join(self) -> NoReturn:
        self.shutdown()


def _resume(waiter: "asyncio.Future[None]") -> bool:
    """Let a task that waits continue; False if there is none."""
    try:
        waiter.set_result(None)
    except (asyncio.InvalidStateError, RuntimeError):
        return False  # it was cancelled, or its event loop was closed while it waited
    return True
