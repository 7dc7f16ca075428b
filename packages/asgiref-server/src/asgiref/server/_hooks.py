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
        waiting = self._waiting[scope_id]
        while waiting:
            await self._call(*waiting.popleft())
        del self._waiting[scope_id]  # at once: the next call must not wait behind a task that ends

    def _ended(self, scope_id: Hashable, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            return
        for name, _ in self._waiting.pop(scope_id, ()):  # cancelled before it began
            logger.error("%s.%s() was not called", type(self._server).__name__, name)

    async def _call(self, name: str, args: tuple[object, ...]) -> None:
        where = f"{type(self._server).__name__}.{name}()"
        try:
            await call(getattr(self._server, name), *args)
        except asyncio.CancelledError:
            # The server ends and cannot wait longer. That ends this call, but those that wait
            # behind it are still made: each tells of something that is told nowhere else.
            logger.warning("%s was cancelled", where)
        except Exception:
            logger.exception("%s failed", where)
