"""The ASGI application that uvicorn serves: it routes to the chat, Django, Flask and the events.

The event stream is here and not in Flask: it lasts as long as the page is open and would occupy a
worker thread all that time. On the loop it costs one task, which looks for new events ten times a
second, so that threads need not wake it and many events need only one write.

Invariant: no request passes `refusal` unless its Host header names this machine (a foreign site can
reach the demo through a name of its own that points here) and no other site sent it.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any, cast

import uvicorn
from flask import Flask

from asgiref.wsgi import WsgiToAsgi

from . import Receive, Scope, Send
from .bridge import django
from .chat import ChatServer
from .trace import Trace

GRACE_SECONDS = 3
POLL_SECONDS = 0.1


class Web:
    """Routes requests by their path."""

    def __init__(self, flask: Flask, trace: Trace, reference: Path) -> None:
        self._wsgi: Any = WsgiToAsgi(cast(Any, flask), max_spool_size=None)
        self._trace = trace
        self._chat = ChatServer(trace)
        self._reference = reference
        self.is_ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        self._trace.ran("ASGI application (uvicorn)")
        is_chat = (scope["type"], scope["path"]) == ("websocket", "/chat")
        reason = refusal(scope)
        if scope["type"] == "websocket" and (reason or not is_chat):
            await receive()
            await send({"type": "websocket.close"})  # before it is accepted: status 403
        elif reason:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": reason.encode()})
        elif is_chat:
            await self._chat(scope, receive, send)
        elif scope["path"] == "/events":
            await self._events(scope, receive, send)
        elif scope["path"].startswith("/bridge/"):
            more = {"demo.trace": self._trace, "demo.reference": self._reference}
            await django({**scope, **more}, receive, send)
        else:
            await self._wsgi(scope, receive, send)

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the browser leaves or the demo ends."""
        self._trace.ran("Event stream (ASGI, outside Flask)")
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        text = _header(scope, b"last-event-id")  # of a browser that returns
        after = int(text) if text.isdecimal() and len(text) < 18 else 0
        disconnected = asyncio.create_task(_disconnected(receive))
        while not disconnected.done() and not self.is_ending:
            if events := self._trace.since(after):
                after = events[-1].number
                fields = (f"id: {e.number}\nevent: {e.kind}\ndata: {e.text}\n\n" for e in events)
                body = "".join(fields).encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.wait([disconnected], timeout=POLL_SECONDS)
        disconnected.cancel()
        await send({"type": "http.response.body"})


def refusal(scope: Scope) -> str:
    """Return why a request must be refused, or an empty string."""
    host = _header(scope, b"host")
    if host.rpartition(":")[0].lower() not in ("127.0.0.1", "localhost"):
        return "The demo answers to this machine's own names only."
    # Browsers send the origin with all requests that could change something.
    origin = _header(scope, b"origin")
    return "Only the demo's own page may do this." if origin not in ("", f"http://{host}") else ""


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve(web: Web, listener: socket, ready: Callable[[], None]) -> None:
    """Serve ``web`` with uvicorn until cancelled."""
    config = uvicorn.Config(
        cast(Any, web),
        ws="websockets-sansio",
        ws_max_size=4096,
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    ready()  # the socket is already listening
    try:
        await asyncio.shield(serving)
    finally:
        web.is_ending = True  # otherwise the event streams would never end
        server.should_exit = True
        await serving


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Drop tracebacks of requests that uvicorn cancelled at the end: another record says so."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
