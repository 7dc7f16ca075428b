"""The outermost ASGI application: marks each request, counts it, and routes it by its path.

With ``SOAK_LEAK``, each request of one kind leaks on purpose, to show that the verdict finds it.
"""

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from asgiref.wsgi import WsgiToAsgi

from .accounts import ENDED, LOCAL, MARK, STARTED, OnPurpose, snapshot
from .bridge_part import Bot, cancel_own_task, cancelled_calls, talk
from .django_part import django_application
from .flask_part import flask

LEAKS: dict[str, Callable[[], object]] = {
    "threads": lambda: threading.Thread(target=threading.Event().wait, daemon=True).start(),
    "descriptors": lambda: os.dup(0),
    "objects": list,
    "memory": lambda: bytearray(os.urandom(64 * 1024)),
    "tasks": lambda: asyncio.create_task(asyncio.sleep(1e6)),
    "loops": asyncio.new_event_loop,
    # A process that has ended, but that its parent never waits for.
    "children": lambda: os.fork() or os._exit(0),
}
#: Only these requests leak: often enough to find, too rarely to break the run.
LEAKING_KIND = "/flask/async"
_leaks = [LEAKS[name] for name in os.environ["SOAK_LEAK"].split()]
_kept: list[object] = []

_wsgi: Any = WsgiToAsgi(flask.wsgi_app)
_bot = Bot()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = dict(scope["headers"])
    kind, mark = (headers.get(name, b"").decode() for name in (b"x-soak-kind", b"x-soak-mark"))
    MARK.set(mark)
    LOCAL.mark = mark
    if scope["path"] == "/probe":
        await _answer(send, json.dumps(snapshot()))
        return
    STARTED[kind] += 1
    try:
        if kind == LEAKING_KIND:
            _kept.extend(leak() for leak in _leaks)
        await _route(scope, receive, send, mark)
    finally:
        ENDED[kind] += 1


async def _route(scope: dict[str, Any], receive: Any, send: Any, mark: str) -> None:
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
        case ["bot", do]:
            await _answer(send, await _bot.ask(do, mark))
        case _:
            raise OnPurpose(mark)


async def _answer(send: Any, text: str) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": text.encode()})
