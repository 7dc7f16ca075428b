"""The measured requests of `AsgiToWsgi` and of a2wsgi's adapter. A pyperf worker runs it.

Each adapter serves the same applications. The caller acts like a WSGI server in the same process:
it makes one request after another, or 50 at once on as many threads.
"""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from wsgiref.util import setup_testing_defaults

from a2wsgi import ASGIMiddleware
from measured import Measure, answer, on_thread
from wsgi_cases import BLOCK, HEADERS, Application, Environ

from asgiref.wsgi import AsgiToWsgi

ENVIRON: Environ = {
    "QUERY_STRING": "",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "wsgi.multithread": True,
    **{
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode() for name, value in HEADERS
    },
}
setup_testing_defaults(ENVIRON)


# Applications


async def respond(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"Hello")


async def measure_upload(scope: Any, receive: Any, send: Any) -> None:
    total, more = 0, True
    while more:
        event = await receive()
        total += len(event["body"])
        more = event["more_body"]
    await respond(send, str(total).encode())


def stream(count: int, chunk: bytes) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/octet-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(count):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return application


# Requests


def ask(application: Any, body: bytes) -> int:
    """Make one request; return the number of bytes in the answer."""
    method, length = ("POST", str(len(body))) if body else ("GET", "")
    own = {"REQUEST_METHOD": method, "CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(body)}
    chunks = application(ENVIRON | own, lambda status, headers, exc_info=None: None)
    received = sum(map(len, chunks))
    chunks.close()
    return received


def case(
    adapter: Callable[[Application], Any],
    application: Application,
    answer_size: int,
    body: bytes = b"",
    at_once: int = 1,
) -> Measure:
    served, pool = adapter(application), ThreadPoolExecutor(at_once)

    def check(_: int = 0) -> None:
        assert ask(served, body) == answer_size

    def measure_at_once(count: int) -> float:
        begin = time.perf_counter()
        list(pool.map(check, range(count)))
        return time.perf_counter() - begin

    return on_thread(check) if at_once == 1 else measure_at_once


REQUESTS: dict[str, Any] = {
    "hello": (hello, 5),
    "POST 1 kB": (measure_upload, 4, b"x" * 1024),
    "50 at once": (hello, 5, b"", 50),
    "1000 chunks of 10 bytes": (stream(1000, b"0123456789"), 10_000),
    "10 MB upload": (measure_upload, 8, BLOCK * 160),
    "10 MB download": (stream(160, BLOCK), 10_485_760),
}
ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "": partial(AsgiToWsgi, lifespan="off"),
    "a2wsgi, ": ASGIMiddleware,
}
CASES: dict[str, Measure] = {
    prefix + name: case(adapter, *request)
    for prefix, adapter in ADAPTERS.items()
    for name, request in REQUESTS.items()
}


# For gunicorn
site, site_of_a2wsgi = (adapter(hello) for adapter in ADAPTERS.values())

if __name__ == "__main__":
    answer(CASES)
