"""The outermost ASGI application: marks each request, counts it, and routes it by its path."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from asgiref.wsgi import WsgiToAsgi

from .bot import Bot
from .counts import COUNTS
from .django_part import create_tables, django_application
from .flask_part import flask
from .leaks import LEAKS
from .marks import LOCAL, MARK, OnPurpose
from .probe import probe
from .talk import talk
from .tasks import cancel_own_task, cancelled_calls

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: The kind of requests without a kind: those of wrk.
PLAIN = "plain"
#: Only these kinds leak, when a leak is enabled: often enough to find, too rarely to break the run.
LEAKING_KIND = "flask-nested"

_wsgi: Any = WsgiToAsgi(flask.wsgi_app)
_leaks = [LEAKS[name] for name in os.environ.get("SOAK_LEAK", "").split()]
_bot = Bot()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    headers = dict(scope["headers"])
    mark = headers.get(b"x-soak-mark", b"").decode()
    kind = headers.get(b"x-soak-kind", PLAIN.encode()).decode()
    MARK.set(mark)
    LOCAL.mark = mark
    if scope["path"] == "/probe":
        await _answer(send, json.dumps(asdict(probe())))
        return
    served = COUNTS.kind(kind)
    served.begun += 1
    try:
        if kind == LEAKING_KIND:
            for leak in _leaks:
                leak()
        await _route(scope, receive, send, mark)
    finally:
        served.ended += 1


async def _route(scope: Scope, receive: Receive, send: Send, mark: str) -> None:
    match scope["path"].split("/")[1:]:
        case ["flask", *_]:
            await _wsgi({**scope, "root_path": "/flask"}, receive, send)
        case ["django", *_]:
            await django_application({**scope, "root_path": "/django"}, receive, send)
        case ["talk", where]:
            await talk(mark, receive, send, own_thread=where == "own-thread")
        case ["tasks", "cancel"]:
            await _answer(send, await cancelled_calls(mark))
        case ["tasks", "cancel-me"]:
            await cancel_own_task(mark)
        case ["bot", scope_id, do]:
            await _answer(send, await _bot.ask(scope_id, do, mark))
        case ["raise"]:
            raise OnPurpose(mark)
        case _:
            raise ValueError(f"nothing is at {scope['path']!r}")


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await asyncio.to_thread(create_tables)
    bot = asyncio.create_task(_bot.arun())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    bot.cancel()
    await asyncio.wait({bot})
    await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, text: str) -> None:
    body = text.encode()
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": body})
