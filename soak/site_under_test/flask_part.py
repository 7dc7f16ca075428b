"""A Flask application that runs in ``WsgiToAsgi``, and a forked process that uses the bridge."""

import asyncio
import contextvars
import faulthandler
import gc
import hashlib
import os
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response, request

from asgiref.sync import async_to_sync, sync_to_async

from .accounts import BLOCK, OnPurpose, check_mark

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


async def below(own: str, thread_sensitive: bool = True) -> str:
    return await sync_to_async(check_mark, thread_sensitive=thread_sensitive)(own)


@flask.get("/async")
async def async_view() -> str:
    """Let Flask call `async_to_sync`; the sync code in it runs on the request's thread."""
    return await below(mark())


@flask.get("/thread")
def thread() -> str:
    """Use the bridge in a thread of our own, for which the bridge must provide a loop."""
    run, own = contextvars.copy_context().run, mark()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run, async_to_sync(below), own, False).result()


@flask.get("/raise")
def fail() -> str:
    raise OnPurpose(mark())


@flask.get("/raise-midway")
def fail_midway() -> Response:
    def blocks(own: str) -> Iterator[bytes]:
        yield BLOCK
        raise OnPurpose(own)

    return Response(blocks(mark()), mimetype="application/octet-stream")


@flask.get("/fork")
def fork() -> str:
    """Return an answer from a forked process, which uses the bridge in both directions.

    The child inherits the forking view's blocked call, but has neither the loop nor the
    other threads. If it fails, its answer is empty and its standard error says why.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # The threads that are gone leave their open connections to the garbage collector.
            gc.disable()
            faulthandler.dump_traceback_later(20, exit=True)
            os.write(write, async_to_sync(_six_calls)(mark()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)  # without any cleanup of the parent
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


async def _six_calls(own: str) -> str:
    calls = [sync_to_async(async_to_sync(below), thread_sensitive=n < 3)(own) for n in range(6)]
    return " ".join(await asyncio.gather(*calls))
