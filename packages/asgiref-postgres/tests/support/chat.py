"""A gateway for tests, and a way to run it with workers in one process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.postgres import PostgresGateway, PostgresWorker


class Chat(PostgresGateway):
    """Stores a test's messages, and collects the events that applications send."""

    def __init__(self, database: Any, **options: Any) -> None:
        super().__init__(database, **options)
        self.started = asyncio.Event()
        self.to_end = asyncio.Event()
        self.events: asyncio.Queue[tuple[str, Any, bool]] = asyncio.Queue()

    async def handle(self) -> None:
        self.started.set()
        await self.to_end.wait()

    async def application_send(self, scope: Any, message: Any) -> None:
        self.events.put_nowait((scope["user"], message, self.delivery.redelivered))

    async def say(self, user: str, text: str) -> None:
        await self.store(user, scope_of(user), said(text))

    async def next_text(self) -> str:
        return str((await self.events.get())[1]["text"])


async def shout(scope: Any, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": "chat.say", "text": message["text"].upper()})


def scope_of(user: str) -> dict[str, Any]:
    return {"type": "chat", "user": user}


def said(text: str) -> dict[str, Any]:
    return {"type": "chat.said", "text": text}


async def with_workers(
    gateway: Chat, workers: list[PostgresWorker], body: Callable[[], Awaitable[None]]
) -> None:
    """Run the gateway and workers while ``body`` runs, then end them in order."""
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(gateway.arun())
        tasks = [group.create_task(worker.arun()) for worker in workers]
        await gateway.started.wait()
        try:
            await body()
        finally:
            for worker in workers:
                worker.stop()
            if tasks:
                await asyncio.wait(tasks)
            gateway.to_end.set()
            await serving


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Poll the condition, because the server offers no event to wait for."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
