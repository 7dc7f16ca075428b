"""The measured requests of the WSGI adapters. Runs in its own environment, on request.

Each adapter serves the same applications. The caller acts like a server in the same process and
makes one request after the other, unless a case says otherwise. `send` never yields to the event
loop, like that of a server whose client keeps up; `receive` returns at once.

`raw` is the minimum for any adapter: gather the body, build an environ of nothing else, call the
application in an executor and send its result in two events.
"""

import asyncio
import io
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from measured import answer

from asgiref.wsgi import WsgiToAsgi

Environ = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"connection", b"keep-alive"),
]
BLOCK = b"x" * 65536


def scope(body: list[bytes]) -> dict[str, Any]:
    length = sum(map(len, body))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST" if length else "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [*HEADERS, (b"content-length", str(length).encode())] if length else HEADERS,
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "state": {},
    }


# Applications


def hello(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"Hello"]


def echo(environ: Environ, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def measure_upload(environ: Environ, start_response: Any) -> Iterable[bytes]:
    total = 0
    while block := environ["wsgi.input"].read(65536):
        total += len(block)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(total).encode()]


def stream(count: int, chunk: bytes) -> Callable[[Environ, Any], Iterator[bytes]]:
    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        for _ in range(count):
            yield chunk

    return application


# Adapters


def of_raw(application: Callable[..., Iterable[bytes]]) -> Application:
    executor = ThreadPoolExecutor(40)

    def call(body: bytes) -> tuple[dict[str, Any], bytes]:
        start: dict[str, Any] = {"type": "http.response.start"}

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            start["status"] = int(status[:3])
            start["headers"] = [(name.lower().encode(), value.encode()) for name, value in headers]

        chunks = application({"wsgi.input": io.BytesIO(body)}, start_response)
        return start, b"".join(chunks)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        loop = asyncio.get_running_loop()
        start, content = await loop.run_in_executor(executor, call, bytes(body))
        await send(start)
        await send({"type": "http.response.body", "body": content})

    return serve


def of_a2wsgi(application: Any) -> Application:
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(application, workers=40)


def of_uvicorn(application: Any) -> Application:
    from uvicorn.middleware.wsgi import WSGIMiddleware

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # in favour of a2wsgi
        return WSGIMiddleware(application, workers=40)


def of_hypercorn(application: Any) -> Application:
    from hypercorn.app_wrappers import WSGIWrapper

    executor = ThreadPoolExecutor(40)
    wrapper = WSGIWrapper(application, max_body_size=1 << 30)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()

        def call_soon(function: Any, *arguments: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(function(*arguments), loop).result()

        spawn = partial(loop.run_in_executor, executor)
        await wrapper(scope, receive, send, spawn, call_soon)

    return serve


def of_wsgi_to_asgi(application: Any) -> Application:
    return WsgiToAsgi(application)


# Requests


async def ask(application: Application, body: list[bytes]) -> int:
    """Make one request; return the number of bytes in the answer."""
    left = len(body)
    received = 0
    gone = asyncio.get_running_loop().create_future()

    async def receive() -> Any:
        nonlocal left
        if not left:
            await gone
        left -= 1
        return {"type": "http.request", "body": body[-1 - left], "more_body": left > 0}

    async def send(event: Any) -> None:
        nonlocal received
        received += len(event.get("body", b""))

    await application(scope(body), receive, send)
    return received


def case(
    adapter: Callable[[Any], Application],
    application: Callable[..., Iterable[bytes]],
    answer_size: int,
    body: tuple[bytes, ...] = (b"",),
    at_once: int = 1,
) -> Callable[[int], float]:
    pieces = list(body)

    async def main(count: int) -> float:
        served = adapter(application)
        warm = [ask(served, pieces) for _ in range(at_once)]
        assert set(await asyncio.gather(*warm)) == {answer_size}
        begin = time.perf_counter()
        for _ in range(count // at_once):
            if at_once == 1:
                await ask(served, pieces)
            else:
                await asyncio.gather(*[ask(served, pieces) for _ in range(at_once)])
        return time.perf_counter() - begin

    return lambda count: asyncio.run(main(count))


def cases_of(adapter: Callable[[Any], Application], prefix: str = "") -> dict[str, Any]:
    make = partial(case, adapter)
    cases = {
        "hello": make(hello, 5),
        "POST 1 kB": make(echo, 1024, (b"x" * 1024,)),
        "50 at once": make(hello, 5, at_once=50),
        "1 MB in 64 kB chunks": make(stream(16, BLOCK), 1 << 20),
        "1000 chunks of 10 bytes": make(stream(1000, b"0123456789"), 10_000),
        "10 MB upload": make(measure_upload, 8, (BLOCK,) * 160),
    }
    return {prefix + name: measure for name, measure in cases.items()}


CASES: dict[str, Callable[[int], float]] = {
    **cases_of(of_wsgi_to_asgi),
    **cases_of(of_raw, "raw, "),
    **cases_of(of_a2wsgi, "a2wsgi, "),
    **cases_of(of_uvicorn, "uvicorn, "),
    **cases_of(of_hypercorn, "hypercorn, "),
}

if __name__ == "__main__":
    answer(CASES)
