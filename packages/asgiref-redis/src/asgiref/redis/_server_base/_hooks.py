"""Calling the server's hooks, of which the pool knows when, and nobody waits for the result.

The calls for one scope are made one after the other, so its failure is reported before what that
left behind, and a hook need not reckon with itself. Scopes do not wait for each other. A scope that
has calls to make has one task that makes them; its tasks are held here until they end, since the
event loop alone keeps only weak references.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Hashable
from functools import partial

from ._calls import call

logger = logging.getLogger("asgiref.server")


class HookCalls:
    """The hook calls of one server that have not ended."""

    def __init__(self, server: object) -> None:
        self._server = server
        self._waiting: dict[Hashable, deque[tuple[str, tuple[object, ...]]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._begun: set[asyncio.Task[None]] = set()
        self._hurried = False

    def run(self, scope_id: Hashable, name: str, *args: object) -> None:
        """Have the server's method ``name`` called, after those that wait for the same scope."""
        waiting = self._waiting.get(scope_id)
        if waiting is not None:
            waiting.append((name, args))
            return
        self._waiting[scope_id] = deque([(name, args)])
        task = asyncio.get_running_loop().create_task(self._work(scope_id))
        self.tasks.add(task)
        task.add_done_callback(partial(self._ended, scope_id))

    def hurry(self) -> None:
        """Give up waiting: from now on a call is cancelled where it waits.

        Every call is still made that far, since each tells of something that is told nowhere else.
        So a task that has not begun is not cancelled from here: it would never begin.
        """
        self._hurried = True
        for task in self._begun:
            task.cancel()

    def take_time(self) -> None:
        """Undo `hurry`, for another run of the server."""
        self._hurried = False

    async def _work(self, scope_id: Hashable) -> None:
        waiting, task = self._waiting[scope_id], asyncio.current_task()
        assert task is not None
        self._begun.add(task)
        while waiting:
            name, args = waiting.popleft()
            if self._hurried:
                task.cancel()
            await self._call(scope_id, name, args)
        del self._waiting[scope_id]  # at once: the next call must not wait behind a task that ends

    def _ended(self, scope_id: Hashable, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self._begun.discard(task)
        if not task.cancelled():
            return
        for name, _ in self._waiting.pop(scope_id, ()):  # cancelled before it began
            logger.error("%s() for scope %r was not called: the loop ended", name, scope_id)

    async def _call(self, scope_id: Hashable, name: str, args: tuple[object, ...]) -> None:
        where = f"{type(self._server).__name__}.{name}() for scope {scope_id!r}"
        try:
            await call(getattr(self._server, name), *args)
        except asyncio.CancelledError:
            logger.warning("%s was cancelled", where)
        except Exception:
            logger.exception("%s failed", where)
