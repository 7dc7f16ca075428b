"""Responses from the adapter itself, not the application: to rejected requests, and to scopes that
WSGI does not have but an ASGI application should answer."""

from __future__ import annotations

from collections.abc import Callable

from ._types import Event, Receive, Scope, Send


def answer(scope: Scope, status: int, text: str) -> tuple[Event, Event]:
    """Return the events of a short plain-text response."""
    body = text.encode()
    headers = [(b"content-type", b"text/plain")]  # asgiref's tests expect exactly these
    start: Event = {"type": "http.response.start", "status": status, "headers": headers}
    shown = b"" if scope["method"] == "HEAD" else body
    return start, {"type": "http.response.body", "body": shown}


async def serve_lifespan(receive: Receive, send: Send, free: Callable[[], None]) -> None:
    """Acknowledge startup and shutdown; call `free` at shutdown."""
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
        return  # the client has already left
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"Forbidden: no websocket here"})
