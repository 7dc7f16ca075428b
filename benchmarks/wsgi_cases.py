"""The measured requests of the WSGI adapters. A pyperf worker runs it in each environment.

Each adapter serves the same applications; `http_requests` makes one request after another, unless
a case says otherwise.

`raw` is the minimum for any adapter: gather the body, build an environ with nothing else in it,
call the application in an executor and send its result in two events. `wsgi_servers` serves
`hello`, and the results of `of_ours` and `of_a2wsgi` without an argument.
"""

import asyncio
import functools
import io
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from http_requests import BLOCK, ask
from measured import Measure, answer, each

from asgiref.wsgi import WsgiToAsgi

Environ = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]
WsgiApplication = Callable[[Environ, Any], Iterable[bytes]]

# Applications


def respond(start_response: Any, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return respond(start_response, b"Hello")


def echo(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return respond(start_response, environ["wsgi.input"].read())


def measure_upload(environ: Environ, start_response: Any) -> Iterable[bytes]:
    total = 0
    while block := environ["wsgi.input"].read(65536):
        total += len(block)
    return respond(start_response, str(total).encode())


def stream(count: int, chunk: bytes) -> WsgiApplication:
    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        for _ in range(count):
            yield chunk

    return application


# Adapters


def of_ours(application: WsgiApplication = hello) -> Application:
    return WsgiToAsgi(application)


def of_raw(application: WsgiApplication) -> Application:
    executor = ThreadPoolExecutor(40)

    def call(body: bytes) -> list[dict[str, Any]]:
        start: dict[str, Any] = {"type": "http.response.start"}

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            start["status"] = int(status[:3])
            start["headers"] = [(name.lower().encode(), value.encode()) for name, value in headers]

        content = b"".join(application({"wsgi.input": io.BytesIO(body)}, start_response))
        return [start, {"type": "http.response.body", "body": content}]

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        loop = asyncio.get_running_loop()
        for event in await loop.run_in_executor(executor, call, bytes(body)):
            await send(event)

    return serve


def imported(module: str, name: str, **options: int) -> Callable[..., Any]:
    """Return a factory that imports its adapter, because not every environment has it."""
    return lambda application=hello: getattr(import_module(module), name)(application, **options)


of_a2wsgi = imported("a2wsgi", "WSGIMiddleware", workers=40)
of_uvicorn = imported("uvicorn.middleware.wsgi", "WSGIMiddleware", workers=40)
# Its threads are those of the loop's default executor, as under hypercorn itself.
of_hypercorn = imported("hypercorn.middleware", "AsyncioWSGIMiddleware", max_body_size=1 << 30)


# Requests


def case(
    adapter: Callable[[Any], Application],
    application: WsgiApplication,
    answer_size: int,
    blocks: tuple[bytes, ...] = (b"",),
    at_once: int = 1,
) -> Measure:
    adapted = functools.cache(adapter)  # its threads start while pyperf warms up

    async def check() -> None:
        assert await ask(adapted(application), blocks) == answer_size

    return each(check, at_once)


REQUESTS: dict[str, Any] = {
    "hello": (hello, 5),
    "POST 1 kB": (echo, 1024, (b"x" * 1024,)),
    "50 at once": (hello, 5, (b"",), 50),
    "1 MB in 64 kB chunks": (stream(16, BLOCK), 1 << 20),
    "1000 chunks of 10 bytes": (stream(1000, b"0123456789"), 10_000),
    "10 MB upload": (measure_upload, 8, (BLOCK,) * 160),
}
ADAPTERS: dict[str, Callable[[Any], Application]] = {
    "": of_ours,
    "raw, ": of_raw,
    "a2wsgi, ": of_a2wsgi,
    "uvicorn, ": of_uvicorn,
    "hypercorn, ": of_hypercorn,
}
CASES: dict[str, Measure] = {
    prefix + name: case(adapter, *request)
    for prefix, adapter in ADAPTERS.items()
    for name, request in REQUESTS.items()
}


if __name__ == "__main__":
    answer(CASES)
