"""An ASGI application for WSGI servers: bodies, streams, failures, and their history."""

import asyncio
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from asgiref.wsgi import AsgiToWsgi

BLOCK = bytes(range(256)) * 256
HISTORY: list[str] = []
CHANGED: list[asyncio.Condition] = []
FILE = Path(tempfile.gettempdir()) / f"asgi_to_wsgi_site-{os.getuid()}.bin"


async def site(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(scope, receive, send)
        return
    name, _, argument = scope["path"].strip("/").partition("/")
    if name in PAGES:
        await PAGES[name](scope, receive, send, argument)
    else:
        await answer(send, b"nothing here", 404)


async def live(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    FILE.write_bytes(BLOCK * 4)
    CHANGED.append(asyncio.Condition())
    scope["state"]["process"] = os.getpid()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("the lifespan has ended", file=sys.stderr, flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def start(send: Any, media_type: bytes = b"application/octet-stream") -> None:
    headers = [(b"content-type", media_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def put(send: Any, chunk: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def hello(scope: Any, receive: Any, send: Any, argument: str) -> None:
    await answer(send, b"Hello")


async def process(scope: Any, receive: Any, send: Any, argument: str) -> None:
    assert scope["state"]["process"] == os.getpid()
    await answer(send, str(os.getpid()).encode())


async def digest(scope: Any, receive: Any, send: Any, argument: str) -> None:
    """Read the whole body, and record a client that leaves in the history."""
    seen = hashlib.sha256()
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            await note("left during upload")
            return
        seen.update(event["body"])
        more = event["more_body"]
    await answer(send, seen.hexdigest().encode())


async def download(scope: Any, receive: Any, send: Any, blocks: str) -> None:
    await start(send)
    for _ in range(int(blocks)):
        await put(send, BLOCK)
    await put(send, b"", False)


async def file(scope: Any, receive: Any, send: Any, argument: str) -> None:
    await start(send)
    await send({"type": "http.response.pathsend", "path": str(FILE)})


async def failing(scope: Any, receive: Any, send: Any, when: str) -> None:
    if when == "later":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"1000000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await put(send, BLOCK)
    raise LookupError("on purpose")


async def endless(scope: Any, receive: Any, send: Any, argument: str) -> None:
    try:
        await start(send)
        while True:
            await put(send, BLOCK)
    finally:
        await note("endless closed")


async def idle(scope: Any, receive: Any, send: Any, argument: str) -> None:
    """Send one chunk, then wait until the client leaves."""
    await start(send)
    await put(send, b"x" * 10)
    while (await receive())["type"] != "http.disconnect":
        pass
    await note("idle closed")


async def events(scope: Any, receive: Any, send: Any, count: str) -> None:
    """Send the first ``count`` published events as server-sent events."""
    await start(send, b"text/event-stream")
    await put(send, b": welcome\n\n")
    await note("subscribed")
    seen = 0
    async with CHANGED[0]:
        while seen < int(count):
            published = [entry for entry in HISTORY if entry.startswith("event ")]
            for entry in published[seen:]:
                await put(send, f"data: {entry}\n\n".encode())
            seen = len(published)
            if seen < int(count):
                await CHANGED[0].wait()
    await put(send, b"", False)


async def publish(scope: Any, receive: Any, send: Any, text: str) -> None:
    await note(f"event {text}")
    await answer(send, b"published")


async def wait_for(scope: Any, receive: Any, send: Any, argument: str) -> None:
    """Answer when the history contains ENTRY at least COUNT times: ``wait/COUNT/ENTRY``."""
    count, _, entry = argument.partition("/")
    async with asyncio.timeout(30), CHANGED[0]:
        await CHANGED[0].wait_for(lambda: HISTORY.count(entry) >= int(count))
    await answer(send, b"yes")


async def memory(scope: Any, receive: Any, send: Any, argument: str) -> None:
    """Return the memory peak of this process in kB; ``memory/reset`` resets it."""
    await answer(send, await asyncio.to_thread(peak, argument == "reset"))


def peak(reset: bool) -> bytes:
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0].encode()


async def note(entry: str) -> None:
    async with CHANGED[0]:
        HISTORY.append(entry)
        CHANGED[0].notify_all()


PAGES = {
    "": hello,
    "process": process,
    "digest": digest,
    "download": download,
    "file": file,
    "failing": failing,
    "endless": endless,
    "idle": idle,
    "events": events,
    "publish": publish,
    "wait": wait_for,
    "memory": memory,
}
application = AsgiToWsgi(site, lifespan="on", disconnect_timeout=0.5)
