"""A `StatelessServer` in the same process, with more scopes than it keeps; some of them fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.server import StatelessServer
from asgiref.sync import sync_to_async

from .marks import OnPurpose

#: Fewer than the scopes that the load names, so that each message may evict an instance.
LIVE_SCOPES = 20


async def _application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, str]]],
    send: Callable[[dict[str, str]], Awaitable[None]],
) -> None:
    while True:
        message = await receive()
        if message["do"] == "raise":
            raise OnPurpose(message["mark"])
        loud = await sync_to_async(message["mark"].upper)()
        await send({"mark": message["mark"], "text": loud})


class Bot(StatelessServer):
    """Passes a message to the application of a scope; `ask` waits for the answer."""

    def __init__(self) -> None:
        super().__init__(_application, max_applications=LIVE_SCOPES, idle_timeout=1)
        self._inbox: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[str]] = {}

    async def ask(self, scope: str, do: str, mark: str) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[mark] = answer
        try:
            self._inbox.put_nowait((scope, {"do": do, "mark": mark}))
            return await answer
        finally:
            del self._waiting[mark]

    async def handle(self) -> None:
        while True:
            scope, message = await self._inbox.get()
            instance = self.get_or_create_application_instance(scope, {"type": "chat"})
            await instance.put(message)

    async def application_send(self, scope: Any, message: dict[str, str]) -> None:
        self._waiting[message["mark"]].set_result(message["text"])

    async def application_exception(self, exception: BaseException, details: Any) -> None:
        await super().application_exception(exception, details)
        if isinstance(exception, OnPurpose):
            self._waiting[exception.mark].set_result("raised")
