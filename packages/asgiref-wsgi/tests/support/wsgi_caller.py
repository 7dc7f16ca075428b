"""A WSGI server without a network, which takes the steps of one request one at a time."""

import io
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator

Application = Callable[[Any, Any, Any], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"x/y")]}


def make_environ(body: bytes = b"", **changes: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "testserver",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ | changes


@dataclass
class Request:
    """One call to a WSGI application."""

    application: Any
    environ: dict[str, Any] = field(default_factory=make_environ)
    status: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    exc_info: Any = None
    chunks: Any = None

    def open(self) -> "Request":
        self.body: Iterable[bytes] = self.application(self.environ, self._start_response)
        self.chunks = iter(self.body)
        return self

    def _start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info is not None and self.status is not None and self.chunks is not None:
            raise exc_info[1]
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return None

    def next(self) -> bytes:
        chunk: bytes = next(self.chunks)
        return chunk

    def close(self) -> None:
        close = getattr(self.body, "close", None)
        if close is not None:
            close()

    def finish(self) -> bytes:
        try:
            return b"".join(self.chunks)
        finally:
            self.close()


@dataclass
class Answer:
    status: str
    headers: list[tuple[str, str]]
    body: bytes
    exc_info: Any


def call(application: Any, body: bytes = b"", *, validate: bool = True, **changes: Any) -> Answer:
    """Make one whole request, by default through wsgiref's validator."""
    environ = make_environ(body, **changes)
    request = Request(validator(application) if validate else application, environ)
    body = request.open().finish()
    assert request.status is not None
    return Answer(request.status, request.headers, body, request.exc_info)


async def read_body(receive: Any) -> bytes:
    """Read a request's body to its end; OSError if the client leaves."""
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise OSError("the client has left")
        body += event["body"]
        more = event["more_body"]
    return body


async def answer_with(send: Any, *chunks: bytes, **start: Any) -> None:
    """Send a whole response."""
    await send(START | start)
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


def without_lifespan(application: Application) -> Application:
    """Reject the lifespan scope, as simple applications do."""

    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("no lifespan")
        await application(scope, receive, send)

    return wrapper
