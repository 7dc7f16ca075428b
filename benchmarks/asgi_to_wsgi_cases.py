"""The measured requests of `AsgiToWsgi` and of a2wsgi's adapter. Runs in its own environment.

Each adapter serves the same applications. The caller acts like a WSGI server in the same process:
it makes one request after the other, or 50 at once on as many threads.
"""

import io
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from a2wsgi import ASGIMiddleware
from measured import answer

from asgiref.wsgi import AsgiToWsgi

Application = Callable[[Any, Any, Any], Awaitable[None]]

HEADERS = {
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
}
BLOCK = b"x" * 65536


def environ(body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST" if body else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        **HEADERS,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


# Applications


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello"})


async def measure_upload(scope: Any, receive: Any, send: Any) -> None:
    total, more = 0, True
    while more:
        event = await receive()
        total += len(event["body"])
        more = event["more_body"]
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(total).encode()})


def stream(count: int, chunk: bytes) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/octet-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(count):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return application


# Requests


def start_response(status: str, headers: Any, exc_info: Any = None) -> None: ...


def ask(application: Any, body: bytes) -> int:
    """Make one request; return the number of bytes in the answer."""
    chunks = application(environ(body), start_response)
    received = sum(map(len, chunks))
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
    return received


def case(
    adapter: Callable[[Application], Any],
    application: Application,
    answer_size: int,
    body: bytes = b"",
    at_once: int = 1,
) -> Callable[[int], float]:
    served = adapter(application)

    def measure(count: int) -> float:
        assert ask(served, body) == answer_size
        if at_once == 1:
            begin = time.perf_counter()
            for _ in range(count):
                ask(served, body)
            return time.perf_counter() - begin
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: ask(served, body), range(at_once)))  # start the threads
            begin = time.perf_counter()
            list(pool.map(lambda _: ask(served, body), range(count)))
            return time.perf_counter() - begin

    return measure


def cases_of(adapter: Callable[[Application], Any], prefix: str = "") -> dict[str, Any]:
    make = partial(case, adapter)
    cases = {
        "hello": make(hello, 5),
        "POST 1 kB": make(measure_upload, 4, b"x" * 1024),
        "50 at once": make(hello, 5, at_once=50),
        "1000 chunks of 10 bytes": make(stream(1000, b"0123456789"), 10_000),
        "10 MB upload": make(measure_upload, 8, BLOCK * 160),
        "10 MB download": make(stream(160, BLOCK), 10_485_760),
    }
    return {prefix + name: measure for name, measure in cases.items()}


CASES: dict[str, Callable[[int], float]] = {
    **cases_of(partial(AsgiToWsgi, lifespan="off")),
    **cases_of(ASGIMiddleware, "a2wsgi, "),
}

if __name__ == "__main__":
    answer(CASES)
