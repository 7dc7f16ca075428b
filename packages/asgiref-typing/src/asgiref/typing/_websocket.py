"""WebSocket: the ASGI WebSocket specification and its denial-response extension.

A scope is one connection. In: `WebSocketConnectEvent`, which the application answers with
`WebSocketAcceptEvent` or `WebSocketCloseEvent`; then a `WebSocketReceiveEvent` for each message;
finally `WebSocketDisconnectEvent`. If ``scope["extensions"]`` contains
``"websocket.http.response"``, the application may answer the connect event with an HTTP response.
"""

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from ._common import ASGIVersions, Extensions, Headers

# Two events have a key named "bytes", which hides the type of that name in their class bodies.
Binary: TypeAlias = bytes


class WebSocketScope(TypedDict):
    """One WebSocket connection; its keys mean the same as those of `HTTPScope`.

    ``subprotocols`` lists the subprotocols that the client offers, in its order of preference.

    >>> scope: WebSocketScope = {
    ...     "type": "websocket",
    ...     "asgi": {"version": "3.0", "spec_version": "2.5"},
    ...     "path": "/chat",
    ...     "headers": [(b"host", b"example.org")],
    ...     "subprotocols": ["chat"],
    ... }
    >>> list(scope.get("subprotocols", ()))
    ['chat']
    """

    type: Literal["websocket"]
    asgi: ASGIVersions
    http_version: NotRequired[str]
    scheme: NotRequired[str]
    path: str
    raw_path: NotRequired[bytes]
    query_string: NotRequired[bytes]
    root_path: NotRequired[str]
    headers: Headers
    client: NotRequired[tuple[str, int] | None]
    server: NotRequired[tuple[str, int | None] | None]
    subprotocols: NotRequired[Iterable[str]]
    state: NotRequired[dict[str, Any]]
    extensions: NotRequired[Extensions | None]


class WebSocketConnectEvent(TypedDict):
    """In: the client wants to open the connection and waits for the answer.

    >>> WebSocketConnectEvent(type="websocket.connect")
    {'type': 'websocket.connect'}
    """

    type: Literal["websocket.connect"]


class WebSocketAcceptEvent(TypedDict):
    """Out: open the connection, with an optional ``subprotocol`` and more response headers.

    >>> WebSocketAcceptEvent(type="websocket.accept", subprotocol="chat")
    {'type': 'websocket.accept', 'subprotocol': 'chat'}
    """

    type: Literal["websocket.accept"]
    subprotocol: NotRequired[str | None]
    headers: NotRequired[Headers]


class WebSocketReceiveEvent(TypedDict):
    """In: one message; exactly one of ``bytes`` and ``text`` is present and not None.

    >>> WebSocketReceiveEvent(type="websocket.receive", text="hello")
    {'type': 'websocket.receive', 'text': 'hello'}
    """

    type: Literal["websocket.receive"]
    bytes: NotRequired[Binary | None]
    text: NotRequired[str | None]


class WebSocketSendEvent(TypedDict):
    """Out: one message; exactly one of ``bytes`` and ``text`` must be present and not None.

    >>> WebSocketSendEvent(type="websocket.send", bytes=b"binary")
    {'type': 'websocket.send', 'bytes': b'binary'}
    """

    type: Literal["websocket.send"]
    bytes: NotRequired[Binary | None]
    text: NotRequired[str | None]


class WebSocketResponseStartEvent(TypedDict):
    """Out, extension: refuse the connection with the status and headers of an HTTP response.

    >>> WebSocketResponseStartEvent(type="websocket.http.response.start", status=401)
    {'type': 'websocket.http.response.start', 'status': 401}
    """

    type: Literal["websocket.http.response.start"]
    status: int
    headers: NotRequired[Headers]


class WebSocketResponseBodyEvent(TypedDict):
    """Out, extension: a part of that response's body, the last one unless ``more_body`` is true.

    >>> WebSocketResponseBodyEvent(type="websocket.http.response.body", body=b"log in first")
    {'type': 'websocket.http.response.body', 'body': b'log in first'}
    """

    type: Literal["websocket.http.response.body"]
    body: NotRequired[Binary]
    more_body: NotRequired[bool]


class WebSocketDisconnectEvent(TypedDict):
    """In: one side closed the connection; ``code`` is 1005 if the client sent none.

    >>> WebSocketDisconnectEvent(type="websocket.disconnect", code=1005, reason="")
    {'type': 'websocket.disconnect', 'code': 1005, 'reason': ''}
    """

    type: Literal["websocket.disconnect"]
    code: int
    reason: NotRequired[str | None]


class WebSocketCloseEvent(TypedDict):
    """Out: close the connection (``code`` defaults to 1000), or refuse to open it (status 403).

    >>> WebSocketCloseEvent(type="websocket.close", code=4000, reason="asked to")
    {'type': 'websocket.close', 'code': 4000, 'reason': 'asked to'}
    """

    type: Literal["websocket.close"]
    code: NotRequired[int]
    reason: NotRequired[str | None]
