"""The websocket endpoint: each message crosses the bridge and back, and gets one answer.

A message is ``{"id": ..., "do": ...}``. Its answer contains the id and the value that the `Local`
has two crossings below, which must be the mark of this connection and not of another one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

from .counts import COUNTS
from .marks import LOCAL, OnPurpose, check_mark

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def talk(mark: str, receive: Receive, send: Send, *, own_thread: bool) -> None:
    """Answer until the client leaves, inside a `ThreadSensitiveContext` or without one."""
    await receive()
    await send({"type": "websocket.accept"})
    async with AsyncExitStack() as stack:
        if own_thread:
            await stack.enter_async_context(ThreadSensitiveContext())
        while (event := await receive())["type"] == "websocket.receive":
            COUNTS.heard += 1
            message = json.loads(event["text"])
            answer = {"id": message["id"], "mark": await _act(message["do"], mark)}
            await send({"type": "websocket.send", "text": json.dumps(answer)})
            COUNTS.said += 1


async def _act(what: str, mark: str) -> str:
    match what:
        case "cross":
            return await sync_to_async(_below)(mark)
        case "cross-parallel":
            return await sync_to_async(_below, thread_sensitive=False)(mark)
        case "cancel":
            task = asyncio.create_task(sync_to_async(_below)(mark))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            return check_mark(mark)
        case "raise":
            raise OnPurpose(mark)
        case _:
            raise ValueError(f"the websocket cannot {what!r}")


def _below(mark: str) -> str:
    """Set a value of the `Local` below, and check that it arrived here."""
    check_mark(mark)

    async def middle() -> str:
        return await sync_to_async(bottom)()

    def bottom() -> str:
        LOCAL.depth = f"set below {mark}"
        return check_mark(mark)

    answer = async_to_sync(middle)()
    if LOCAL.depth != f"set below {mark}":
        raise RuntimeError(f"{mark} found {LOCAL.depth!r} in its Local")
    del LOCAL.depth
    return answer
