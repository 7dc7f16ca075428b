"""A Flask application that runs in ``WsgiToAsgi``."""

from __future__ import annotations

import contextvars
import hashlib
import threading
import time
from collections.abc import Iterator

from flask import Flask, Response, request

from asgiref.sync import async_to_sync, sync_to_async

from .forks import forked
from .marks import OnPurpose, check_mark

BLOCK = bytes(range(256)) * 256  # 64 kB

flask = Flask(__name__)


def mark() -> str:
    return check_mark(request.headers.get("X-Soak-Mark", ""))


@flask.get("/hello")
def hello() -> str:
    return f"Hello {mark()}"


@flask.post("/digest")
def digest() -> str:
    """Read the upload as it arrives. If it is cut off, raise OSError and do not answer."""
    seen = hashlib.sha256(mark().encode())
    while block := request.stream.read(65536):
        seen.update(block)
    return seen.hexdigest()


@flask.get("/download/<int:blocks>")
def download(blocks: int) -> Response:
    return Response((BLOCK for _ in range(blocks)), mimetype="application/octet-stream")


@flask.get("/slow")
def slow() -> str:
    time.sleep(0.1)
    return mark()


@flask.get("/nested")
def nested() -> str:
    """Call sync below async below sync: the innermost runs on the thread of this view."""
    own = mark()

    async def middle() -> str:
        return await sync_to_async(check_mark)(own)

    return async_to_sync(middle)()


@flask.get("/async")
async def async_view() -> str:
    return await sync_to_async(mark)()


@flask.get("/thread")
def thread() -> str:
    """Use the bridge in a thread that it does not know, so that it lends a loop."""
    heard: list[str] = []

    async def middle() -> str:
        return await sync_to_async(check_mark, thread_sensitive=False)(own)

    own = mark()
    context = contextvars.copy_context()
    other = threading.Thread(target=lambda: heard.append(context.run(async_to_sync(middle))))
    other.start()
    other.join()
    return heard[0]


@flask.get("/fork")
def fork() -> str:
    return forked(mark())


@flask.get("/raise")
def fail() -> str:
    raise OnPurpose(mark())


@flask.get("/raise-midway")
def fail_midway() -> Response:
    own = mark()

    def blocks() -> Iterator[bytes]:
        yield BLOCK
        raise OnPurpose(own)

    return Response(blocks(), mimetype="application/octet-stream")
