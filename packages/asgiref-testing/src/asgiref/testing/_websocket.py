"""A websocket conversation: the test is the client.

The socket is open inside the block: entering the block performs the handshake, and leaving it
closes the socket. A refused handshake raises an exception with the HTTP response that a client
would see.
"""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from ._connection import Connection
from ._http import HttpResponse
from ._output import Output
from ._report import safe_repr
from ._rules import Rules
from ._scopes import (
    Headers,
    HeadersLike,
    Overrides,
    connection_scope,
    decoded,
    encoded,
    extensions_of,
    has,
)

_DENIAL_START = "websocket.http.response.start"
_DENIAL_BODY = "websocket.http.response.body"
_DENIAL = "websocket.http.response"  # the extension

_ACCEPT, _SEND, _CLOSE = (f"websocket.{name}" for name in ("accept", "send", "close"))


class WebsocketRules(Rules):
    """The rules for an application that serves a websocket."""

    def __init__(self, application: object, scope: Overrides) -> None:
        super().__init__(application)
        self._subprotocols: set[str | None] = {None, *(scope.get("subprotocols") or ())}
        self._due: tuple[str, ...] = (_ACCEPT, _CLOSE)
        if _DENIAL in extensions_of(scope):
            self._due += (_DENIAL_START,)

    def _advance(self, event: Output) -> None:
        self.require_due(event, *self._due)
        match event["type"]:
            case "websocket.accept":
                self._accept(event)
            case "websocket.send":
                self._send(event)
            case "websocket.close":
                self._close(event)
                self.is_over = True
            case "websocket.http.response.start":
                self.require_status(event)
                self.require_headers(event)
                self._due = (_DENIAL_BODY,)
            case _:
                self.require_bytes(event, "body")
                self.is_over = not event.get("more_body", False)

    def _accept(self, event: Output) -> None:
        self.require_headers(event)
        subprotocol = event.get("subprotocol")
        if not isinstance(subprotocol, str | None):
            self.complain(f"sent {_ACCEPT!r} with a subprotocol that is not a str", event)
        if subprotocol not in self._subprotocols:
            self.complain(f"sent {_ACCEPT!r} with a subprotocol that was not offered", event)
        self._due = (_SEND, _CLOSE)

    def _send(self, event: Output) -> None:
        text, binary = event.get("text"), event.get("bytes")
        if (text is None) == (binary is None):
            self.complain(f"sent {_SEND!r} without exactly one of text and bytes", event)
        if text is not None and not _is_text(text):
            self.complain(f"sent {_SEND!r} with a text that is not a str of valid Unicode", event)
        if binary is not None:
            self.require_bytes(event, "bytes")

    def _close(self, event: Output) -> None:
        code, reason = event.get("code", 1000), event.get("reason") or ""
        if not isinstance(code, int) or not _may_be_sent(code):
            self.complain(f"sent {_CLOSE!r} with the code {safe_repr(code)}", event)
        if not _is_text(reason) or len(reason.encode()) > 123:
            self.complain(
                f"sent {_CLOSE!r} with a reason that is not a str of up to 123 bytes", event
            )


def _is_text(value: object) -> bool:
    """Return whether a value is a str that a server can encode: one without lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _may_be_sent(code: int) -> bool:
    """Return whether RFC 6455 allows sending a close code."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


class WebsocketDenied(ConnectionError):
    """The application did not accept the socket.

    Attributes:
        response: the response that the client sees: status 403, or the application's own response
            if it uses the denial-response extension, which the helper offers.
        reason: the reason from its ``websocket.close``, or ``""``.

    >>> WebsocketDenied(HttpResponse(401, [])).response.status
    401
    """

    def __init__(self, response: HttpResponse, reason: str = "") -> None:
        super().__init__(
            f"The application denied the websocket: {response.status} {reason}".strip()
        )
        self.response = response
        self.reason = reason


class WebsocketClosed(ConnectionError):
    """The application has closed the socket.

    Attributes:
        code: the close code (RFC 6455); the default is 1000.
        reason: the application's reason, or ``""``.

    >>> str(WebsocketClosed(4000, "bye"))
    'The application closed the websocket: 4000 bye'
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"The application closed the websocket: {code} {reason}".strip())
        self.code = code
        self.reason = reason


class WebsocketConversation(Connection):
    """A websocket to an ASGI application, open inside an ``async with`` block.

    Args:
        application: an ASGI application, single- or double-callable.
        target: the path, percent-encoded or not, with an optional query; or a whole URL.
        headers: a mapping of str, or pairs of str or bytes.
        subprotocols: the subprotocols that the client offers, the preferred one first.
        scope: keys of the scope to add or to replace.
        state: the state of a `Lifespan`; the scope gets a shallow copy.
        timeout: how many seconds each wait for the application may take; None means no limit.

    Raises:
        TypeError: if ``application`` is not an ASGI application.
        WebsocketDenied: at the start of the block, if the application does not accept.

    Attributes:
        subprotocol: the subprotocol that the application chose, or None.
        headers: header lines that the application added to the handshake's response.

    Everything runs on the test's thread and event loop. If the timeout expires in a method
    that waits for the application, the method cancels the application and raises TimeoutError. Such
    a method raises AssertionError if the application sends an event that the specification (ASGI
    WebSocket 2.5) does not allow, and the application's own exception if the application fails. If
    the application sends an event that a server would reject and the test does not read it, the
    block fails when it exits, with the event in the message.

    At the end of the block, the client closes the socket with code 1000, and the application has
    ``timeout`` seconds to end; then it is cancelled, and TimeoutError is raised. A block that ends
    with an exception cancels the application immediately.

    >>> import asyncio
    >>> async def application(scope, receive, send):
    ...     await receive()
    ...     await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
    ...     while (event := await receive())["type"] == "websocket.receive":
    ...         await send({"type": "websocket.send", "text": event["text"].upper()})
    >>> async def main():
    ...     async with WebsocketConversation(application, "/", subprotocols=["loud"]) as socket:
    ...         await socket.send("hello")
    ...         return socket.subprotocol, await socket.receive()
    >>> asyncio.run(main())
    ('loud', 'HELLO')
    """

    def __init__(
        self,
        application: object,
        target: str = "/",
        *,
        headers: HeadersLike = (),
        subprotocols: Iterable[str] = (),
        scope: Overrides | None = None,
        state: Overrides | None = None,
        timeout: float | None = 5,
    ) -> None:
        lines, offered = encoded(headers), list(subprotocols)
        if offered and not has(lines, b"sec-websocket-protocol"):
            lines.append((b"sec-websocket-protocol", ", ".join(offered).encode("latin-1")))
        made = connection_scope("websocket", "ws", target, lines, state)
        made |= {"subprotocols": offered, "extensions": {_DENIAL: {}}, **(scope or {})}
        super().__init__(application, made, timeout, WebsocketRules(application, made))
        self.subprotocol: str | None = None
        self.headers: Headers = []
        self.__closed: tuple[int, str] | None = None  # code and reason of the application's close

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            denied = await self.__open()
        except BaseException:
            await self._asgiref_runner.cancel("the handshake failed")
            raise
        if denied is None:
            return self
        try:
            await self.__aexit__(None, None, None)
            raise denied
        finally:
            del denied  # its traceback refers to this frame

    async def send(self, message: str | bytes) -> None:
        """Send a message. Does not wait for the application to receive it.

        Args:
            message: the str of a text message, or the bytes of a binary one.

        Raises:
            RuntimeError: if the application has returned.
            Exception: the application's own exception, if it has failed.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     print(await receive())
        >>> async def main():
        ...     async with WebsocketConversation(application) as socket:
        ...         await socket.send(b"binary")
        >>> asyncio.run(main())
        {'type': 'websocket.receive', 'bytes': b'binary'}
        """
        kind = "text" if isinstance(message, str) else "bytes"
        await self.send_input({"type": "websocket.receive", kind: message})

    async def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON in a text message.

        Args:
            value: any value that `json.dumps` accepts.

        Raises:
            TypeError: if `json.dumps` does not accept ``value``; nothing is sent.
            RuntimeError: if the application has returned.
            Exception: the application's own exception, if it has failed.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     print(await receive())
        >>> async def main():
        ...     async with WebsocketConversation(application) as socket:
        ...         await socket.send_json({"user": "ada"})
        >>> asyncio.run(main())
        {'type': 'websocket.receive', 'text': '{"user": "ada"}'}
        """
        await self.send(json.dumps(value))

    async def receive(self) -> str | bytes:
        """Wait for the next message.

        Returns:
            str for a text message, bytes for a binary one.

        Raises:
            WebsocketClosed: if the application closes, or has closed, the socket.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     await send({"type": "websocket.send", "bytes": b"only this"})
        ...     await send({"type": "websocket.close", "code": 4000})
        >>> async def main():
        ...     async with WebsocketConversation(application) as socket:
        ...         print(await socket.receive())
        ...         try:
        ...             await socket.receive()
        ...         except WebsocketClosed as closed:
        ...             print(closed.code)
        >>> asyncio.run(main())
        b'only this'
        4000
        """
        async with self._asgiref_client.reading:
            closed = self.__closed
            if closed is None:
                event = await self._asgiref_client.event(self.timeout, _SEND, _CLOSE)
                if event["type"] == _SEND:
                    text: str | None = event.get("text")
                    return bytes(event["bytes"]) if text is None else text
                closed = await self.__take_close(event)
        raise WebsocketClosed(*closed)

    async def receive_json(self) -> Any:
        """Wait for the next message, text or binary, and decode it as JSON.

        Returns:
            The decoded value.

        Raises:
            WebsocketClosed: if the application closes, or has closed, the socket.
            ValueError: if the message is not JSON or not UTF-8; the message is lost.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     await send({"type": "websocket.send", "text": '{"users": ["ada", "ben"]}'})
        >>> async def main():
        ...     async with WebsocketConversation(application) as socket:
        ...         return await socket.receive_json()
        >>> asyncio.run(main())
        {'users': ['ada', 'ben']}
        """
        return json.loads(await self.receive())

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over the messages until the application closes the socket.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     for word in ("one", "two"):
        ...         await send({"type": "websocket.send", "text": word})
        ...     await send({"type": "websocket.close"})
        >>> async def main():
        ...     async with WebsocketConversation(application) as socket:
        ...         return [message async for message in socket]
        >>> asyncio.run(main())
        ['one', 'two']
        """
        while True:
            try:
                message = await self.receive()
            except WebsocketClosed:
                return
            yield message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket from the client's side.

        The application can receive the event once, and its sends raise ``OSError``. Messages that
        it has already sent can still be read. Does not wait for the application to end; see `wait`.

        Args:
            code: the close code (RFC 6455).
            reason: the text that explains the code.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     await receive()
        ...     await send({"type": "websocket.accept"})
        ...     print(await receive())
        >>> async def main():
        ...     async with WebsocketConversation(application) as socket:
        ...         await socket.close(1001, "going away")
        >>> asyncio.run(main())
        {'type': 'websocket.disconnect', 'code': 1001, 'reason': 'going away'}
        """
        await self._asgiref_client.hang_up(_disconnect(code, reason))

    def _asgiref_departure(self) -> Output:
        return _disconnect(1000, "")

    async def __open(self) -> WebsocketDenied | None:
        """Perform the handshake; return the exception for a refusal, or None."""
        await self.send_input({"type": "websocket.connect"})
        event = await self._asgiref_client.event(self.timeout, _ACCEPT, _CLOSE, _DENIAL_START)
        if event["type"] == _CLOSE:
            await self.__take_close(event)
            return WebsocketDenied(HttpResponse(403, []), event.get("reason") or "")
        if event["type"] == _DENIAL_START:
            return WebsocketDenied(await self.__denial(event))
        self.subprotocol = event.get("subprotocol")
        self.headers = decoded(event.get("headers", ()))
        return None

    async def __denial(self, start: Output) -> HttpResponse:
        body, more = b"", True
        while more:
            event = await self._asgiref_client.event(self.timeout, _DENIAL_BODY)
            body += event.get("body", b"")
            more = event.get("more_body", False)
        return HttpResponse(start["status"], decoded(start.get("headers", ())), body)

    async def __take_close(self, event: Output) -> tuple[int, str]:
        """Record that the application closed the socket; its next ``receive`` will report that."""
        self.__closed = closed = (event.get("code", 1000), event.get("reason") or "")
        await self._asgiref_client.tell_disconnect(_disconnect(*closed))
        return closed


def _disconnect(code: int, reason: str) -> Output:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
