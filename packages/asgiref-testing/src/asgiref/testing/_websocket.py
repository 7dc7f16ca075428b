"""A websocket conversation: the test is the client, the application the server's other half.

The socket is open inside the block: entering it makes the handshake, leaving it closes. So a method
never finds a socket that is not yet open, and a handshake that is refused is an exception there,
with the HTTP response that a client would see.
"""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from ._connection import Connection, Rules
from ._http import HttpResponse
from ._output import Output
from ._scopes import Headers, HeadersLike, Overrides, connection_scope, decoded, encoded, has

_DENIAL_START = "websocket.http.response.start"
_DENIAL_BODY = "websocket.http.response.body"


_ACCEPT, _SEND, _CLOSE = (f"websocket.{name}" for name in ("accept", "send", "close"))


class WebsocketRules(Rules):
    """What is due next from an application that serves a websocket."""

    def __init__(self, application: object) -> None:
        super().__init__(application)
        self._due: tuple[str, ...] = (_ACCEPT, _CLOSE, _DENIAL_START)

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
            self.complain(f"sent {_ACCEPT!r} with a subprotocol that is no str", event)
        self._due = (_SEND, _CLOSE)

    def _send(self, event: Output) -> None:
        text, binary = event.get("text"), event.get("bytes")
        if (text is None) == (binary is None):
            self.complain(f"sent a {_SEND!r} that has not exactly one of text and bytes", event)
        if text is not None and not isinstance(text, str):
            self.complain(f"sent a {_SEND!r} with a text that is no str", event)
        if binary is not None:
            self.require_bytes(event, "bytes")

    def _close(self, event: Output) -> None:
        code, reason = event.get("code", 1000), event.get("reason") or ""
        if not isinstance(code, int) or not _may_be_sent(code):
            self.complain(f"sent {_CLOSE!r} with the code {code!r}", event)
        if not isinstance(reason, str) or len(reason.encode()) > 123:
            self.complain(f"sent {_CLOSE!r} with a reason that is no str of 123 bytes", event)


def _may_be_sent(code: int) -> bool:
    """Whether RFC 6455 allows a close code on the wire."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


class WebsocketDenied(ConnectionError):
    """The application did not accept the socket.

    Attributes:
        response: what the client sees instead: status 403, or the application's own response if it
            uses the denial-response extension, which the helper offers.
        reason: the reason that it gave when it closed the socket, or ``""``.

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
        code: the close code of RFC 6455, 1000 if the application named none.
        reason: the reason that it gave, or ``""``.

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
        subprotocols: those that the client offers, the preferred one first.
        scope: keys of the scope to add or to replace.
        state: the state of a `Lifespan`; the scope gets a shallow copy.
        timeout: how many seconds each wait for the application may take; None is for ever.

    Raises:
        TypeError: if ``application`` is not an ASGI application.
        WebsocketDenied: at the beginning of the block, if the application does not accept.

    Attributes:
        subprotocol: the one that the application chose, or None.
        headers: header lines that it added to the handshake's response.

    Everything runs on the thread and the event loop of the test. Every wait raises TimeoutError
    when the time is over, which cancels the application; AssertionError if the application sends
    what the specification (ASGI WebSocket 2.5) does not allow there; and the application's own
    exception if it fails. What a server would have rejected also fails the block at its end, with
    the event in the message, if the test has not read it.

    At the end of the block the client closes the socket with code 1000, and the application has
    ``timeout`` seconds to end; then it is cancelled, and TimeoutError raised. A block that ends by
    an exception cancels it at once.

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
        made |= {"subprotocols": offered, "extensions": {"websocket.http.response": {}}}
        rules = WebsocketRules(application)
        super().__init__(application, {**made, **(scope or {})}, timeout, rules)
        self.subprotocol: str | None = None
        self.headers: Headers = []
        self._closed: tuple[int, str] | None = None  # code and reason of the application's close

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            denied = await self._open()
        except BaseException:
            await self._asgi_cancel("the handshake failed")
            raise
        if denied is None:
            return self
        try:
            await self.__aexit__(None, None, None)
            raise denied
        finally:
            del denied  # its traceback refers to this frame

    async def send(self, message: str | bytes) -> None:
        """Send a message. Does not wait until the application has received it.

        Args:
            message: a text, or the bytes of a binary message.

        Raises:
            RuntimeError: if the application has returned.
            Exception: the application's own, if it has failed.

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
            value: anything that `json.dumps` takes.

        Raises:
            TypeError: if ``value`` is not such a thing; nothing is sent then.
            RuntimeError: if the application has returned.
            Exception: the application's own, if it has failed.

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
            str for a text, bytes for a binary one.

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
        async with self._reading:
            closed = self._closed
            if closed is None:
                event = await self._event(_SEND, _CLOSE)
                if event["type"] == _SEND:
                    text: str | None = event.get("text")
                    return bytes(event["bytes"]) if text is None else text
                closed = await self._take_close(event)
        raise WebsocketClosed(*closed)

    async def receive_json(self) -> Any:
        """Wait for the next message, text or binary, and give what its JSON says.

        Returns:
            What `json.loads` makes of it.

        Raises:
            WebsocketClosed: if the application closes, or has closed, the socket.
            ValueError: if the message is not JSON or not UTF-8; it has been taken.

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
        """The messages until the application closes the socket.

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
        """Close the socket from the client's side. The application can receive that once, and its
        sends raise ``OSError``.

        What it sent before can still be read. Does not wait for its end, see `wait`.

        Args:
            code: the close code of RFC 6455.
            reason: the text that goes with it.

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
        await self._hang_up(_disconnect(code, reason))

    def _departure(self) -> Output:
        return _disconnect(1000, "")

    async def _open(self) -> WebsocketDenied | None:
        """Make the handshake; gives the refusal, if it is one."""
        await self.send_input({"type": "websocket.connect"})
        event = await self._event(_ACCEPT, _CLOSE, _DENIAL_START)
        if event["type"] == _CLOSE:
            await self._take_close(event)
            return WebsocketDenied(HttpResponse(403, []), event.get("reason") or "")
        if event["type"] == _DENIAL_START:
            return WebsocketDenied(await self._denial(event))
        self.subprotocol = event.get("subprotocol")
        self.headers = decoded(event.get("headers", ()))
        return None

    async def _denial(self, start: Output) -> HttpResponse:
        body, more = b"", True
        while more:
            event = await self._event(_DENIAL_BODY)
            body += event.get("body", b"")
            more = event.get("more_body", False)
        return HttpResponse(start["status"], decoded(start.get("headers", ())), body)

    async def _take_close(self, event: Output) -> tuple[int, str]:
        """The application closed: its next receive tells it that the socket is."""
        self._closed = closed = (event.get("code", 1000), event.get("reason") or "")
        await self._tell_disconnect(_disconnect(*closed))
        return closed


def _disconnect(code: int, reason: str) -> Output:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
