"""The ASGI application that uvicorn serves: asyncio for long connections, Flask for the rest.

This module serves the event stream, the chat and the fleet without Flask: an event stream lasts as
long as the page is open and would occupy a worker thread all that time; on the loop it costs one
small task. All other requests go to Flask through ``WsgiToAsgi``.

Two guards check every request. The Host header must name this machine, so that a foreign site
cannot reach the demo through its own name that points here (DNS rebinding); and a request that
changes something must not come from another site.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qs

from asgiref.wsgi import WsgiToAsgi

from .chat_users import ChatUsers
from .irc_client import ChatError
from .trace import Event, Trace

MAX_BODY = 16 * 1024
HEARTBEAT_SECONDS = 15.0
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost"})

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
KillWorker = Callable[[str], Awaitable[bool]]
"""Kills the worker of this name; returns false if there is none."""


class BadCall(Exception):
    """The request cannot be served; the answer is ``status`` and the text."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Web:
    """Routes HTTP requests to the event stream, the chat or the WSGI application."""

    def __init__(
        self,
        wsgi_application: Callable[..., Iterable[bytes]],
        users: ChatUsers,
        trace: Trace,
        kill: KillWorker | None = None,
    ) -> None:
        self._wsgi = WsgiToAsgi(cast(Any, wsgi_application), max_spool_size=None)
        self._users = users
        self._trace = trace
        self._kill = kill
        self._calls: dict[str, Callable[[str, str], Awaitable[dict[str, str]]]] = {
            "/chat/join": self._join,
            "/chat/say": self._say,
            "/chat/leave": self._leave,
            "/fleet/kill": self._kill_worker,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise ValueError(f"the demo serves HTTP only, not {scope['type']!r}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._trace.name_loop("uvicorn's loop")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._users.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._trace.ran("ASGI application (uvicorn)")
        try:
            _guard(scope)
            if scope["path"] == "/events" and scope["method"] == "GET":
                await self._events(scope, receive, send)
            elif scope["path"] in self._calls and scope["method"] == "POST":
                call = await _json_call(scope, receive)
                answer = await self._calls[scope["path"]](*call)
                await _respond(send, HTTPStatus.OK, answer)
            else:
                await self._wsgi(cast(Any, scope), cast(Any, receive), cast(Any, send))
        except ChatError as error:
            await _respond(send, HTTPStatus.CONFLICT, {"error": str(error)})
        except BadCall as error:
            await _respond(send, error.status, {"error": str(error)})

    # The chat

    async def _join(self, nick: str, _text: str) -> dict[str, str]:
        user = await self._users.join(nick)
        return {"token": user.token, "nick": user.client.nick}

    async def _say(self, token: str, text: str) -> dict[str, str]:
        if not text.strip():
            raise BadCall(HTTPStatus.BAD_REQUEST, "say something, the text is empty")
        await self._users.say(token, text)
        return {}

    async def _leave(self, token: str, _text: str) -> dict[str, str]:
        await self._users.leave(token)
        return {}

    # The fleet

    async def _kill_worker(self, name: str, _text: str) -> dict[str, str]:
        """Kill a worker by its name: a request must not choose a process id."""
        if self._kill is None or not await self._kill(name):
            raise BadCall(HTTPStatus.CONFLICT, f"{name!r} is no worker of this demo that runs")
        return {}

    # The event stream (HTML standard, section "Server-sent events")

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the browser leaves or the trace closes."""
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"cache-control", b"no-store"),
                ],
            }
        )
        pump = asyncio.create_task(self._pump_events(_last_event_id(scope), send))
        gone = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            gone.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
        if pump.cancelled():
            return
        pump.result()
        await send({"type": "http.response.body"})

    async def _pump_events(self, after: int, send: Send) -> None:
        self._trace.ran("Event stream (ASGI, outside Flask)")
        await send(_chunk("retry: 1000\n\n"))
        beat = asyncio.create_task(_heartbeat(send))
        try:
            async for event in self._trace.subscribe(after):
                await send(_chunk(_as_sse(event)))
        finally:
            beat.cancel()


def _guard(scope: Scope) -> None:
    """Refuse requests that another site may have sent. Raises ``BadCall``."""
    host, _, _port = _header(scope, b"host").partition(":")
    if host.lower() not in _LOCAL_HOSTS:
        raise BadCall(HTTPStatus.FORBIDDEN, "the demo answers on this machine's own names only")
    foreign = _header(scope, b"sec-fetch-site") in ("cross-site", "same-site")
    if foreign and scope["method"] not in ("GET", "HEAD"):
        raise BadCall(HTTPStatus.FORBIDDEN, "only the demo's own page may change something")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _json_call(scope: Scope, receive: Receive) -> tuple[str, str]:
    """Read ``{"nick", "token" or "worker": ..., "text": ...}``. Raises ``BadCall``."""
    if _header(scope, b"content-type").partition(";")[0] != "application/json":
        raise BadCall(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "this takes application/json only")
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadCall(HTTPStatus.BAD_REQUEST, "the browser left before it had said anything")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise BadCall(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY} bytes")
    try:
        call = json.loads(body)
    except ValueError:
        raise BadCall(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if not isinstance(call, dict):
        raise BadCall(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
    subject = call.get("token") or call.get("nick") or call.get("worker") or ""
    return str(subject), str(call.get("text") or "")


async def _respond(send: Send, status: HTTPStatus, answer: dict[str, str]) -> None:
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _last_event_id(scope: Scope) -> int:
    """Return the number after which to continue: a returning browser's header, or ``?after=``."""
    after = parse_qs(scope["query_string"].decode("latin-1")).get("after", ["0"])[0]
    text = _header(scope, b"last-event-id") or after
    return int(text) if text.isdecimal() and len(text) < 18 else 0


def _as_sse(event: Event) -> str:
    return f"id: {event.number}\nevent: {event.kind}\ndata: {event.text}\n\n"


def _chunk(text: str) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def _heartbeat(send: Send) -> None:
    """Send a comment regularly: without it the server would not notice that a browser has left."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        await send(_chunk(": still here\n\n"))


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
