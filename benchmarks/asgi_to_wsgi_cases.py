"""The measured requests of `AsgiToWsgi`. A pyperf worker runs it in each environment.

asgiref 3.13 has no such adapter, so the reference environment measures a2wsgi's. The caller
makes one request after another, or 50 at once on as many threads.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from http_requests import BLOCK, ask_wsgi
from measured import Measure, answer, on_thread
from wsgi_cases import Application

adapted: Callable[[Any], Any]
try:
    from asgiref.wsgi import AsgiToWsgi

    adapted = partial(AsgiToWsgi, lifespan="off")
except ImportError:
    from a2wsgi import ASGIMiddleware

    adapted = ASGIMiddleware

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


def case(
    application: Application, answer_size: int, body: bytes = b"", at_once: int = 1
) -> Measure:
    served, pool = adapted(application), ThreadPoolExecutor(at_once)

    def check(_: int = 0) -> None:
        assert ask_wsgi(served, body) == answer_size

    def measure_at_once(count: int) -> float:
        begin = time.perf_counter()
        list(pool.map(check, range(count)))
        return time.perf_counter() - begin

    return on_thread(check) if at_once == 1 else measure_at_once


CASES: dict[str, Measure] = {
    "hello": case(hello, 5),
    "POST 1 kB": case(measure_upload, 4, b"x" * 1024),
    "50 at once": case(hello, 5, at_once=50),
    "1000 chunks of 10 bytes": case(stream(1000, b"0123456789"), 10_000),
    "10 MB upload": case(measure_upload, 8, BLOCK * 160),
    "10 MB download": case(stream(160, BLOCK), 10_485_760),
}
site = adapted(hello)  # for gunicorn

if __name__ == "__main__":
    answer(CASES)
