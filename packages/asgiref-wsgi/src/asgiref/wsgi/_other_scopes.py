"""Scopes that no WSGI application can serve, but every ASGI application should answer."""

from __future__ import annotations

from collections.abc import Callable

from ._types import Receive, Scope, Send


async def serve_lifespan(receive: Receive, send: Send, free: Callable[[], None]) -> None:
    """Say yes to startup and shutdown; `free` is called at shutdown."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            free()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Close a connection before it is accepted, with status 403 where the server can send one."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return  # the client has left already
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"Forbidden: no websocket here"})
