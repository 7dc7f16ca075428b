"""ASGI code that uses the bridge itself: a websocket endpoint, cancelled tasks, and a chat bot."""

import asyncio
import json
import threading
from contextlib import nullcontext
from typing import Any

from asgiref.server import StatelessServer
from asgiref.sync import ThreadEvent, ThreadSensitiveContext, async_to_sync, sync_to_async

from .accounts import LOCAL, MESSAGES, OnPurpose, check_mark

#: Longer than any step here takes; a call that reaches this limit fails.
LIMIT_SECONDS = 30.0


async def talk(mark: str, receive: Any, send: Any, *, own_thread: bool) -> None:
    """Answer each message ``{"id": ..., "do": ...}`` with its id and the mark of the inner call."""
    await receive()
    await send({"type": "websocket.accept"})
    async with ThreadSensitiveContext() if own_thread else nullcontext():
        while (event := await receive())["type"] == "websocket.receive":
            MESSAGES["received"] += 1
            message = json.loads(event["text"])
            answer = {"id": message["id"], "mark": await _act(message["do"], mark)}
            await send({"type": "websocket.send", "text": json.dumps(answer)})
            MESSAGES["answered"] += 1


async def _act(do: str, mark: str) -> str:
    if do == "raise":
        raise OnPurpose(mark)
    if do != "cancel":
        return await sync_to_async(_below, thread_sensitive=do == "cross")(mark)
    task = asyncio.create_task(sync_to_async(_below)(mark))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    return check_mark(mark)


def _below(mark: str) -> str:
    """Set a value of the `Local` two crossings away, and check that it arrived here."""
    check_mark(mark)

    def bottom() -> str:
        LOCAL.depth = mark
        return check_mark(mark)

    async def middle() -> str:
        return await sync_to_async(bottom)()

    async_to_sync(middle)()
    depth: str = LOCAL.depth
    del LOCAL.depth
    return depth


async def cancelled_calls(mark: str) -> str:
    """Cancel calls before they start, while they run, wait for a thread or run a coroutine.

    Return the names of those that ended correctly.
    """
    gate, running, below = threading.Event(), ThreadEvent(), asyncio.Event()
    ran: list[str] = []

    def hold() -> None:
        running.set()
        gate.wait(LIMIT_SECONDS)

    async def sleep() -> None:
        below.set()
        await asyncio.sleep(LIMIT_SECONDS)

    def start(function: Any, *arguments: object) -> asyncio.Task[object]:
        return asyncio.create_task(sync_to_async(function)(*arguments))

    async with ThreadSensitiveContext():
        tasks = {"before": start(ran.append, mark)}
        tasks["before"].cancel()
        tasks["running"] = start(hold)
        await running.wait()
        tasks["waiting"] = start(ran.append, mark)
        await asyncio.sleep(0)
        tasks["waiting"].cancel()
        # The cancellation arrives at the task's next step, so keep the thread busy until then.
        await asyncio.wait({tasks["waiting"]}, timeout=LIMIT_SECONDS)
        tasks["running"].cancel()
        parallel = sync_to_async(gate.wait, thread_sensitive=False)(LIMIT_SECONDS)
        tasks["timeout"] = asyncio.create_task(asyncio.wait_for(parallel, 0.01))
        await asyncio.wait({tasks["timeout"]})
        gate.set()
        tasks["below"] = start(async_to_sync(sleep))
        await below.wait()
        tasks["below"].cancel()
        await asyncio.wait(tasks.values(), timeout=LIMIT_SECONDS)
        await sync_to_async(check_mark)(mark)
    ended = [name for name, task in tasks.items() if task.cancelled() or task.exception()]
    return " ".join(ended) if not ran else "a cancelled call ran"


async def cancel_own_task(mark: str) -> None:
    """Cancel this request's task, inside a call across the bridge."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    await sync_to_async(loop.call_soon_threadsafe)(task.cancel)
    await sync_to_async(threading.Event().wait)(0.05)


async def _chat(scope: dict[str, Any], receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["do"] == "raise":
            message["answer"].set_result("raised")
            raise OnPurpose(message["mark"])
        text = await sync_to_async("Hello {mark}".format)(**message)
        await send({**message, "text": text})


class Bot(StatelessServer):
    """Passes a message to the application of a scope; `ask` waits for the answer."""

    def __init__(self) -> None:
        # Fewer than the scopes below, so that each message may evict an instance.
        super().__init__(_chat, max_applications=20, idle_timeout=1)
        self._messages: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._runs: asyncio.Task[None] | None = None

    async def ask(self, do: str, mark: str) -> str:
        self._runs = self._runs or asyncio.create_task(self.arun())
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        message = {"do": do, "mark": mark, "answer": answer}
        self._messages.put_nowait((f"{hash(mark) % 60}", message))
        return await answer

    async def handle(self) -> None:
        while True:
            scope, message = await self._messages.get()
            await self.get_or_create_application_instance(scope, {"type": "chat"}).put(message)

    async def application_send(self, scope: Any, message: dict[str, Any]) -> None:
        message["answer"].set_result(message["text"])
