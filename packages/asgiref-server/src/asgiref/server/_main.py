"""Running a server's main coroutine, and its checker beside it, to an end that leaves no task.

``asyncio.gather`` would leave the checker running when the main coroutine raises, and a TaskGroup
would wrap what it raises into a group.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

logger = logging.getLogger("asgiref.server")


class Main:
    """The tasks of one run of a server."""

    def __init__(self, handle: Awaitable[Any], checker: Awaitable[Any]) -> None:
        self._handler: asyncio.Future[Any] = asyncio.ensure_future(handle)
        self._checker: asyncio.Future[Any] = asyncio.ensure_future(checker)
        self._terminated = False

    def terminate(self) -> None:
        """Make `wait` return soon, as if the main coroutine had returned."""
        self._terminated = True
        self._handler.cancel()

    async def wait(self) -> None:
        """Until the main coroutine ends, or the checker fails; raise what either raised."""
        try:
            await asyncio.wait({self._handler, self._checker}, return_when=asyncio.FIRST_COMPLETED)
            if not self._handler.done():
                self._checker.result()
                await asyncio.wait({self._handler})
        finally:
            await self._end()
        if self._handler.cancelled() and self._terminated:
            logger.info("Exiting due to SIGTERM")
        else:
            self._handler.result()

    async def _end(self) -> None:
        running = [task for task in (self._handler, self._checker) if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in running:
            if not task.cancelled() and task.exception() is not None:
                logger.error("%r failed while it was cancelled", task, exc_info=task.exception())
