"""Applications that the tests run in worker processes: ``redis_apps:echo``."""

import asyncio
import os
import signal
import sys
import time
from typing import Any


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Tells for each message who handled it."""
    place = scope["redis"]
    while True:
        message = await receive()
        await send(
            {
                "type": "heard",
                "number": message["number"],
                "redelivered": message.get("redelivered", False),
                "pid": os.getpid(),
                "partition": place["partition"],
                "token": place["token"],
            }
        )


async def slow_echo(scope: Any, receive: Any, send: Any) -> None:
    """The same; each message takes some milliseconds."""

    async def receive_slowly() -> Any:
        message = await receive()
        await asyncio.sleep(0.005)
        return message

    await echo(scope, receive_slowly, send)


async def holds(scope: Any, receive: Any, send: Any) -> None:
    """Tells that it has begun with a message, and takes very long for it the first time."""
    while True:
        message = await receive()
        redelivered = message.get("redelivered", False)
        await send({"type": "begun", "number": message["number"], "redelivered": redelivered})
        if not redelivered:
            await asyncio.sleep(60)


async def dies(scope: Any, receive: Any, send: Any) -> None:
    """Each message says what happens with it, and how long that takes."""
    while True:
        message = await receive()
        await asyncio.sleep(message.get("seconds", 0))
        match message.get("how"):
            case "exit":
                os._exit(137)
            case "signal":
                os.kill(os.getpid(), signal.SIGKILL)
            case "sys.exit":
                sys.exit(3)
            case "ctrl-c":
                raise KeyboardInterrupt
            case "block":
                time.sleep(2)  # noqa: ASYNC251
            case _:
                await send({"type": "done", "id": scope["id"], "number": message["number"]})


not_an_application = 5
