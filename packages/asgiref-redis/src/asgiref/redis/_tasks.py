"""Ending tasks that wait for Redis.

On Python 3.11 a cancellation can get lost in redis-py while it makes or breaks a connection: the
task goes on as if nothing had been. So it is cancelled until it has ended.
"""

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable["asyncio.Future[Any]"]) -> None:
    """Cancel tasks, and return when all have ended."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
