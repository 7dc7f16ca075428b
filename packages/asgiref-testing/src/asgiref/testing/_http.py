"""One HTTP exchange: the test is the client, the application answers one request.

What has been received of the response is kept in its `_Phase`: each event is due in one phase only,
and another one is an error of the application that the test is told at once. The specification's
optional keys have their defaults, and the events of extensions, which an application sends only if
the test has put their names into the scope, are collected as they are.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

from ._connection import Connection, Rules
from ._output import Output
from ._scopes import Headers, HeadersLike, Overrides, connection_scope, decoded, encoded, has


@dataclass(frozen=True, slots=True)
class ResponseStart:
    """Status and headers of a response.

    Attributes:
        status: the status code, for example 200.
        headers: the header lines in order, pairs of name and value as bytes.

    >>> start = ResponseStart(200, [(b"content-type", b"text/plain"), (b"vary", b"accept")])
    >>> start.header("Content-Type")
    'text/plain'
    """

    status: int
    headers: Headers

    def header(self, name: str) -> str | None:
        """The value of a header, decoded as latin-1.

        Args:
            name: in any case.

        Returns:
            The value; None without such a header.

        Several lines of one name are joined by ``", "``, which means the same (RFC 9110) for every
        header but Set-Cookie; look for that in ``headers``.
        """
        wanted = name.lower().encode("latin-1")
        values = [value.decode("latin-1") for each, value in self.headers if each.lower() == wanted]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class HttpResponse(ResponseStart):
    """A whole response.

    Attributes:
        status: the status code, for example 200.
        headers: the header lines in order, pairs of name and value as bytes.
        body: all pieces of the body, joined.
        trailers: the header lines that came after the body; empty without that extension.
        extras: the events of other extensions as they were sent, in order: debug information, early
            hints, pushes, and files to be sent by the server, which are not read into ``body``.

    >>> response = HttpResponse(200, [], b"hello")
    >>> response.status, response.body, response.trailers
    (200, b'hello', [])
    """

    body: bytes = b""
    trailers: Headers = field(default_factory=list[tuple[bytes, bytes]])
    extras: list[Output] = field(default_factory=list[Output])


#: The longest body that is kept.
_MAX_BODY = 100 << 20


class _Phase(Enum):
    """What is due next from the application."""

    START = auto()
    BODY = auto()
    TRAILERS = auto()
    NOTHING = auto()


_START, _BODY, _TRAILERS = (f"http.response.{name}" for name in ("start", "body", "trailers"))
_HINTS = ("http.response.early_hint", "http.response.push")
_BEFORE_THE_START = ("http.response.debug", *_HINTS)
_FILES = ("http.response.zerocopysend", "http.response.pathsend")


class HttpRules(Rules):
    """What is due next from an application that answers a request."""

    def __init__(self, application: object) -> None:
        super().__init__(application)
        self._phase = _Phase.START
        self._trailers_follow = False

    def _advance(self, event: Output) -> None:
        match self._phase:
            case _Phase.START:
                self._start(event)
            case _Phase.BODY:
                self._body(event)
            case _:
                self.require_due(event, _TRAILERS)
                self.require_headers(event)
                self.is_over = not event.get("more_trailers", False)

    def _start(self, event: Output) -> None:
        self.require_due(event, _START, *_BEFORE_THE_START)
        if event["type"] == _START:
            self.require_status(event)
            self.require_headers(event)
            self._trailers_follow = bool(event.get("trailers", False))
            self._phase = _Phase.BODY

    def _body(self, event: Output) -> None:
        self.require_due(event, _BODY, *_FILES, *_HINTS)
        if event["type"] in _HINTS:
            return
        if event["type"] == _BODY:
            self.require_bytes(event, "body")
        if not event.get("more_body", False):
            self._phase = _Phase.TRAILERS
            self.is_over = not self._trailers_follow


class HttpExchange(Connection):
    """One request to an ASGI application and its response, as an asynchronous context manager.

    Args:
        application: an ASGI application, single- or double-callable.
        method: the request's method.
        target: the path, percent-encoded or not, with an optional query; or a whole URL.
        headers: a mapping of str, or pairs of str or bytes. A ``host`` is added, and what frames
            the body (``content-length`` or ``transfer-encoding``), where they are missing.
        body: the request's body, sent when the block begins. None if the test sends it, piece by
            piece, with `send`.
        scope: keys of the scope to add or to replace, for example ``extensions``.
        state: the state of a `Lifespan`; the scope gets a shallow copy, as each request does.
        timeout: how many seconds each wait for the application may take; None is for ever.

    Raises:
        TypeError: if ``application`` is not an ASGI application.

    Everything runs on the thread and the event loop of the test. Every wait raises TimeoutError
    when the time is over, which cancels the application; AssertionError if the application sends
    what the specification (ASGI HTTP 2.5) does not allow there; and the application's own exception
    if it fails. What a server would have rejected also fails the block at its end, with the event
    in the message, if the test has not read it. An application that sends much more than is read
    waits in ``send``, as under a server.

    At the end of the block the client hangs up. The application may go on, with background work for
    example, for as long as ``timeout`` says; then it is cancelled, and TimeoutError raised. A block
    that ends by an exception cancels it at once.

    >>> import asyncio
    >>> async def application(scope, receive, send):
    ...     request = await receive()
    ...     await send({"type": "http.response.start", "status": 200})
    ...     await send({"type": "http.response.body", "body": request["body"].upper()})
    >>> async def main():
    ...     async with HttpExchange(application, "POST", "/loud", body=b"hello") as exchange:
    ...         return await exchange.response()
    >>> asyncio.run(main())
    HttpResponse(status=200, headers=[], body=b'HELLO', trailers=[], extras=[])
    """

    def __init__(
        self,
        application: object,
        method: str = "GET",
        target: str = "/",
        *,
        headers: HeadersLike = (),
        body: bytes | None = b"",
        scope: Overrides | None = None,
        state: Overrides | None = None,
        timeout: float | None = 5,
    ) -> None:
        lines = encoded(headers)
        if not has(lines, b"content-length") and not has(lines, b"transfer-encoding"):
            if body is None:
                lines.append((b"transfer-encoding", b"chunked"))
            elif body:
                lines.append((b"content-length", str(len(body)).encode()))
        made = connection_scope("http", "http", target, lines, state)
        made["method"] = method.upper()
        rules = HttpRules(application)
        super().__init__(application, {**made, **(scope or {})}, timeout, rules)
        self._whole_body = body
        self._phase = _Phase.START
        self._start: ResponseStart | None = None
        self._trailers_follow = False
        self._pieces: list[bytes] = []
        self._length = 0
        self._trailers: Headers = []
        self._extras: list[Output] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._whole_body is not None:
            await self.send(self._whole_body, more=False)
        return self

    async def send(self, piece: bytes = b"", *, more: bool = True) -> None:
        """Send a piece of the request's body.

        Does not wait until the application has received it.

        Args:
            piece: the bytes; may be empty.
            more: whether more will follow; the last piece has False.

        Raises:
            RuntimeError: if the application has returned.
            Exception: the application's own, if it has failed.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 200})
        ...     more = True
        ...     while more:
        ...         event = await receive()
        ...         more = event["more_body"]
        ...         await send({"type": "http.response.body", "body": event["body"][::-1],
        ...                     "more_body": more})
        >>> async def main():
        ...     async with HttpExchange(application, "POST", body=None) as exchange:
        ...         backwards = exchange.pieces()
        ...         await exchange.send(b"abc")
        ...         print(await anext(backwards))
        ...         await exchange.send(b"def", more=False)
        ...         print(await anext(backwards))
        >>> asyncio.run(main())
        b'cba'
        b'fed'
        """
        await self.send_input({"type": "http.request", "body": piece, "more_body": more})

    async def start(self) -> ResponseStart:
        """Wait for status and headers, or give them again.

        Raises:
            TimeoutError: if they do not come in time; as everywhere, see `HttpExchange`.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 204})
        ...     await send({"type": "http.response.body"})
        >>> async def main():
        ...     async with HttpExchange(application) as exchange:
        ...         return (await exchange.start()).status
        >>> asyncio.run(main())
        204
        """
        async with self._reading:
            while self._start is None:
                self._take_start(await self._event(_START))
        return self._start

    def _take_start(self, event: Output) -> None:
        if event["type"] in _BEFORE_THE_START:
            self._extras.append(event)
            return
        self._start = ResponseStart(event["status"], decoded(event.get("headers", ())))
        self._trailers_follow = bool(event.get("trailers", False))
        self._phase = _Phase.BODY

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces of the response's body as they come, empty ones left out.

        Another iteration goes on where the last one was left.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 200})
        ...     for piece in (b"one", b"two"):
        ...         await send({"type": "http.response.body", "body": piece, "more_body": True})
        ...     await send({"type": "http.response.body"})
        >>> async def main():
        ...     async with HttpExchange(application) as exchange:
        ...         return [piece async for piece in exchange.pieces()]
        >>> asyncio.run(main())
        [b'one', b'two']
        """
        await self.start()
        while True:
            async with self._reading:
                if self._phase is _Phase.NOTHING:
                    return
                piece = await self._read_piece() if self._phase is _Phase.BODY else b""
                if self._phase is _Phase.TRAILERS:
                    await self._read_trailers()
            if piece:
                yield piece

    async def response(self) -> HttpResponse:
        """Wait for the whole response. Pieces of the body that were read before are part of it.

        Raises:
            AssertionError: if the body is longer than 100 MB: such a one is read with `pieces`.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 404})
        ...     await send({"type": "http.response.body", "body": b"no " + scope["raw_path"]})
        >>> async def main():
        ...     async with HttpExchange(application, "GET", "/page?q=1") as exchange:
        ...         response = await exchange.response()
        ...     return response.status, response.body
        >>> asyncio.run(main())
        (404, b'no /page')
        """
        start = await self.start()
        async for _ in self.pieces():
            if self._is_too_long:
                break
        if self._is_too_long:
            raise AssertionError(
                f"{self._asgi_name} sent a body of more than {_MAX_BODY >> 20} MB, which "
                "response() does not keep: read it with pieces()."
            )
        body = b"".join(self._pieces)
        return HttpResponse(
            start.status, list(start.headers), body, list(self._trailers), list(self._extras)
        )

    async def disconnect(self) -> None:
        """Hang up. The application can receive that once, and its sends raise ``OSError``.

        What it sent before can still be read. Does not wait for its end, see `wait`.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     print((await receive())["type"])
        >>> async def main():
        ...     async with HttpExchange(application) as exchange:
        ...         await exchange.disconnect()
        ...         await exchange.wait()
        >>> asyncio.run(main())
        http.disconnect
        """
        await self._hang_up(self._departure())

    def _departure(self) -> Output:
        return {"type": "http.disconnect"}

    async def _read_piece(self) -> bytes:
        """Take one event of the body; nothing if it is one of an extension."""
        event = await self._event(_BODY)
        if event["type"] in _HINTS:
            self._extras.append(event)
            return b""
        piece: bytes = b""
        if event["type"] in _FILES:
            self._extras.append(event)
        else:
            piece = bytes(event.get("body", b""))
            self._keep(piece)
        if not event.get("more_body", False):
            await self._enter(_Phase.TRAILERS if self._trailers_follow else _Phase.NOTHING)
        return piece

    def _keep(self, piece: bytes) -> None:
        """Keep a piece for `response`, unless the stream may be one without an end."""
        self._length += len(piece)
        if self._is_too_long:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    @property
    def _is_too_long(self) -> bool:
        return self._length > _MAX_BODY

    async def _read_trailers(self) -> None:
        event = await self._event(_TRAILERS)
        self._trailers += decoded(event.get("headers", ()))
        if not event.get("more_trailers", False):
            await self._enter(_Phase.NOTHING)

    async def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        if phase is _Phase.NOTHING:  # a receive after the response tells of a disconnect
            await self._tell_disconnect(self._departure())
