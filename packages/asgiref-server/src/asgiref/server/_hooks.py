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

    async def _work(self, scope_id: Hashable) -> None:
        waiting, task = self._waiting[scope_id], asyncio.current_task()
        hurried = False
        while waiting:
            name, args = waiting.popleft()
            if hurried and task is not None:
                task.cancel()
            hurried = await self._call(scope_id, name, args) or hurried
        del self._waiting[scope_id]  # at once: the next call must not wait behind a task that ends

    def _ended(self, scope_id: Hashable, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            return
        for name, _ in self._waiting.pop(scope_id, ()):  # cancelled before it began
            logger.error("%s() for scope %r was not called: the loop ended", name, scope_id)

    async def _call(self, scope_id: Hashable, name: str, args: tuple[object, ...]) -> bool:
        """Call one hook; true if it was cancelled.

        The server has ended then and cannot wait longer. The calls behind this one are still made,
        up to where they would wait: each tells of something that is told nowhere else.
        """
        where = f"{type(self._server).__name__}.{name}() for scope {scope_id!r}"
        try:
            await call(getattr(self._server, name), *args)
        except asyncio.CancelledError:
            logger.warning("%s was cancelled", where)
            return True
        except Exception:
            logger.exception("%s failed", where)
        return False
