"""One HTTP exchange: the test is the client, and the application answers one request.

``_http_rules`` has checked every event that this module reads. The events of extensions, which an
application sends only if the scope offers them, are collected unchanged.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

from ._connection import Connection
from ._http_rules import BODY, HINTS, START, TRAILERS, HttpPhase, HttpRules
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
        """Return the value of a header, decoded as latin-1.

        Args:
            name: the header's name; case does not matter.

        Returns:
            The value, or None if there is no such header.

        Lines with the same name are joined with ``", "``, which has the same meaning (RFC 9110) for
        every header except Set-Cookie; read that one from ``headers``.
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
        trailers: the header lines after the body; empty unless the application uses the
            trailers extension.
        extras: the events of other extensions, in order: debug information, early hints, pushes,
            and files that the server would send, which are not read into ``body``.

    >>> response = HttpResponse(200, [], b"hello")
    >>> response.status, response.body, response.trailers
    (200, b'hello', [])
    """

    body: bytes = b""
    trailers: Headers = field(default_factory=list[tuple[bytes, bytes]])
    extras: list[Output] = field(default_factory=list[Output])


#: Bytes of the body that an exchange keeps for `HttpExchange.response`.
_MAX_BODY = 100 << 20


class HttpExchange(Connection):
    """One request to an ASGI application and its response, as an asynchronous context manager.

    Args:
        application: an ASGI application, single- or double-callable.
        method: the request's method.
        target: the path, percent-encoded or not, with an optional query; or a whole URL.
        headers: a mapping of str, or pairs of str or bytes. The helper adds ``host``, and
            ``content-length`` or ``transfer-encoding`` if there is a body, unless they are given.
        body: the request's body, sent at the start of the block. None if the test sends the body in
            pieces with `send`.
        scope: keys of the scope to add or to replace, for example ``extensions``.
        state: the state of a `Lifespan`; each request gets a shallow copy.
        timeout: how many seconds each wait for the application may take; None means no limit.

    Raises:
        TypeError: if ``application`` is not an ASGI application.

    Everything runs on the test's thread and event loop. If the timeout expires in a method
    that waits for the application, the method cancels the application and raises TimeoutError. Such
    a method raises AssertionError if the application sends an event that the specification (ASGI
    HTTP 2.5) does not allow, and the application's own exception if the application fails. If the
    application sends an event that a server would reject and the test does not read it, the block
    fails when it exits, with the event in the message. The block also fails if the application
    returns without completing its response. An application that sends more than 1 MiB before the
    test reads waits in ``send``, as under a server.

    At the end of the block, the client disconnects. The application may continue for ``timeout``
    seconds, for example with background work; then it is cancelled, and TimeoutError is raised. A
    block that ends with an exception cancels the application immediately.

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
        made |= scope or {}
        self.__rules = HttpRules(application, made)
        super().__init__(application, made, timeout, self.__rules)
        self.__request = body
        self.__phase = HttpPhase.START
        self.__start: ResponseStart | None = None
        self.__pieces: list[bytes] = []
        self.__size = 0
        self.__trailers: Headers = []
        self.__extras: list[Output] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self.__request is not None:
            await self.send(self.__request, more=False)
        return self

    async def send(self, piece: bytes = b"", *, more: bool = True) -> None:
        """Send a piece of the request's body.

        Does not wait for the application to receive it.

        Args:
            piece: the bytes; may be empty.
            more: whether more pieces follow; False for the last one.

        Raises:
            RuntimeError: if the application has returned.
            Exception: the application's own exception, if it has failed.

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
        """Wait for the status and the headers. Later calls return them again.

        Raises:
            TimeoutError: if they do not arrive in time; see `HttpExchange`.

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
        while self.__start is None:
            await self.__read(None)
        return self.__start

    async def pieces(self) -> AsyncIterator[bytes]:
        """Iterate over the pieces of the response's body as they arrive, skipping empty ones.

        Another iteration continues where the last one stopped.

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
        while self.__phase is not HttpPhase.NOTHING:
            piece = await self.__read(None)
            if piece:
                yield piece

    async def response(self) -> HttpResponse:
        """Wait for the whole response, which may take ``timeout`` seconds in total.

        It includes pieces of the body that have already been read.

        Raises:
            TimeoutError: if the response is not complete in time; see `HttpExchange`.
            RuntimeError: if the body is larger than 100 MiB. Use `pieces` for such a body.

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
        deadline = None
        if self.timeout is not None:
            deadline = asyncio.get_running_loop().time() + self.timeout
        while self.__phase is not HttpPhase.NOTHING:
            await self.__read(deadline)
            self.__require_kept_body()
        self.__require_kept_body()
        start = await self.start()
        body = b"".join(self.__pieces)
        return HttpResponse(
            start.status, list(start.headers), body, list(self.__trailers), list(self.__extras)
        )

    def __require_kept_body(self) -> None:
        if self.__size > _MAX_BODY:
            raise RuntimeError(
                f"{self._asgiref_runner.name} sent a body of more than {_MAX_BODY >> 20} MiB. Read "
                "such a body with pieces()."
            )

    async def disconnect(self) -> None:
        """Disconnect. The application can receive the event once; its sends raise ``OSError``.

        Events that it has already sent can still be read. Does not wait for the application to end;
        see `wait`.

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
        await self._asgiref_client.hang_up(self._asgiref_departure())

    def _asgiref_departure(self) -> Output:
        return {"type": "http.disconnect"}

    async def __read(self, deadline: float | None) -> bytes:
        """Read one event; return the piece of the body in it, or nothing.

        ``deadline`` limits the whole response, so that an endless stream cannot keep the test
        waiting.
        """
        client, timeout = self._asgiref_client, self.timeout
        if deadline is not None:
            timeout = deadline - asyncio.get_running_loop().time()
            if timeout < 0:
                what = f"did not complete its response within {self.timeout} s"
                await client.runner.time_out(what)
        async with client.reading:
            match self.__phase:
                case HttpPhase.START:
                    self.__take_start(await client.event(timeout, START))
                case HttpPhase.BODY:
                    return await self.__take_piece(await client.event(timeout, BODY))
                case HttpPhase.TRAILERS:
                    await self.__take_trailers(await client.event(timeout, TRAILERS))
                case HttpPhase.NOTHING:  # a concurrent call has read the last event
                    pass
        return b""

    def __take_start(self, event: Output) -> None:
        if event["type"] != START:
            self.__extras.append(event)
            return
        self.__start = ResponseStart(event["status"], decoded(event.get("headers", ())))
        self.__phase = HttpPhase.BODY

    async def __take_piece(self, event: Output) -> bytes:
        if event["type"] != BODY:
            self.__extras.append(event)
        piece: bytes = event.get("body", b"") if event["type"] == BODY else b""
        self.__keep(piece)
        if event["type"] not in HINTS and not event.get("more_body", False):
            await self.__enter(self.__rules.after(event))
        return piece

    def __keep(self, piece: bytes) -> None:
        self.__size += len(piece)
        if self.__size <= _MAX_BODY:
            self.__pieces.append(piece)
        else:
            self.__pieces.clear()

    async def __take_trailers(self, event: Output) -> None:
        self.__trailers += decoded(event.get("headers", ()))
        if not event.get("more_trailers", False):
            await self.__enter(HttpPhase.NOTHING)

    async def __enter(self, phase: HttpPhase) -> None:
        self.__phase = phase
        if phase is HttpPhase.NOTHING:  # the next receive reports the disconnect
            await self._asgiref_client.tell_disconnect(self._asgiref_departure())
