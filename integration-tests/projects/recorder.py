"""An ASGI application that records every scope and event that it receives.

It appends each one, pickled, to the file that the environment variable RECORDING names.
"""

import os
import pickle
from pathlib import Path


def record(kind, value):
    with Path(os.environ["RECORDING"]).open("ab") as recording:
        pickle.dump((kind, value), recording)


async def application(scope, receive, send):
    async def recorded():
        event = await receive()
        record("event", event)
        return event

    record("scope", dict(scope))
    await globals()[scope["type"]](scope, recorded, send)


async def lifespan(scope, receive, send):
    scope.get("state", {})["greeting"] = "hello"
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


async def http(scope, receive, send):
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200})
    if scope["path"] == "/left":
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()
        return
    await send({"type": "http.response.body", "body": b"hello"})
    await receive()


async def websocket(scope, receive, send):
    await receive()
    if scope["path"] == "/denied":
        await send({"type": "websocket.close"})
        await receive()
        return
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "asked to"})
        else:
            await send({**event, "type": "websocket.send"})
