"""HTTP: the ASGI HTTP specification 2.5 and its extensions.

A scope is one request. "In" events go to the application: `HTTPRequestEvent` until ``more_body`` is
false, later `HTTPDisconnectEvent`. "Out" events go to the server: `HTTPResponseStartEvent`, then
body events until ``more_body`` is false. Use an extension only if ``scope["extensions"]`` contains
its name, which is the type of its event (``"http.response.push"``, for example).
"""

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, Protocol, TypedDict

from ._common import ASGIVersions, Extensions, Headers


class HTTPScope(TypedDict):
    """One HTTP request.

    ``path`` is decoded; ``raw_path`` and ``query_string`` are the bytes that the client sent.
    ``root_path`` is the path that the application is mounted at. ``client`` and ``server`` are
    (host, port), or (path, None) for a Unix socket. ``state`` is this request's shallow copy of the
    lifespan's state.

    >>> scope: HTTPScope = {
    ...     "type": "http",
    ...     "asgi": {"version": "3.0", "spec_version": "2.5"},
    ...     "http_version": "1.1",
    ...     "method": "GET",
    ...     "path": "/café",
    ...     "raw_path": b"/caf%C3%A9",
    ...     "query_string": b"page=1",
    ...     "headers": [(b"host", b"example.org")],
    ...     "client": ("192.0.2.1", 50000),
    ...     "server": ("192.0.2.2", 80),
    ... }
    >>> scope["path"], scope.get("scheme", "http"), dict(scope["headers"])[b"host"]
    ('/café', 'http', b'example.org')
    """

    type: Literal["http"]
    asgi: ASGIVersions
    http_version: str
    method: str
    scheme: NotRequired[str]
    path: str
    raw_path: NotRequired[bytes]
    query_string: bytes
    root_path: NotRequired[str]
    headers: Headers
    client: NotRequired[tuple[str, int] | None]
    server: NotRequired[tuple[str, int | None] | None]
    state: NotRequired[dict[str, Any]]
    extensions: NotRequired[Extensions | None]


class HTTPRequestEvent(TypedDict):
    """In: a part of the request's body, the last one unless ``more_body`` is true.

    >>> HTTPRequestEvent(type="http.request", body=b"a=1", more_body=False)
    {'type': 'http.request', 'body': b'a=1', 'more_body': False}
    """

    type: Literal["http.request"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class HTTPDisconnectEvent(TypedDict):
    """In: the client has disconnected, or the response is complete.

    >>> HTTPDisconnectEvent(type="http.disconnect")
    {'type': 'http.disconnect'}
    """

    type: Literal["http.disconnect"]


class HTTPResponseStartEvent(TypedDict):
    """Out: status and headers. If ``trailers`` is true, a trailers event follows the body.

    >>> HTTPResponseStartEvent(type="http.response.start", status=200, headers=[(b"a", b"1")])
    {'type': 'http.response.start', 'status': 200, 'headers': [(b'a', b'1')]}
    """

    type: Literal["http.response.start"]
    status: int
    headers: NotRequired[Headers]
    trailers: NotRequired[bool]


class HTTPResponseBodyEvent(TypedDict):
    """Out: a part of the response's body, the last one unless ``more_body`` is true.

    >>> HTTPResponseBodyEvent(type="http.response.body", body=b"hello", more_body=True)
    {'type': 'http.response.body', 'body': b'hello', 'more_body': True}
    """

    type: Literal["http.response.body"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class HTTPResponseTrailersEvent(TypedDict):
    """Out, extension: headers after the body, the last ones unless ``more_trailers`` is true.

    >>> HTTPResponseTrailersEvent(type="http.response.trailers", headers=[(b"etag", b"1")])
    {'type': 'http.response.trailers', 'headers': [(b'etag', b'1')]}
    """

    type: Literal["http.response.trailers"]
    headers: Headers
    more_trailers: NotRequired[bool]


class HTTPResponsePathsendEvent(TypedDict):
    """Out, extension: send the file at the absolute ``path`` as the body; replaces body events.

    >>> HTTPResponsePathsendEvent(type="http.response.pathsend", path="/srv/logo.png")
    {'type': 'http.response.pathsend', 'path': '/srv/logo.png'}
    """

    type: Literal["http.response.pathsend"]
    path: str


class HTTPServerPushEvent(TypedDict):
    """Out, extension: push the resource at the decoded ``path`` to the client (HTTP/2 push).

    >>> HTTPServerPushEvent(type="http.response.push", path="/style.css", headers=[])
    {'type': 'http.response.push', 'path': '/style.css', 'headers': []}
    """

    type: Literal["http.response.push"]
    path: str
    headers: Headers


class HasFileno(Protocol):
    """A file with a file descriptor: an open file, not an ``io.BytesIO``."""

    def fileno(self) -> int: ...


class HTTPResponseZeroCopySendEvent(TypedDict):
    """Out, extension: a part of the body that the operating system copies from ``file``.

    ``offset`` and ``count`` are in bytes. Without them, the copy extends from the file's current
    position to its end. The application owns the file and closes it.

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     event = HTTPResponseZeroCopySendEvent(
    ...         type="http.response.zerocopysend", file=file, offset=0, count=512
    ...     )
    >>> event["count"]
    512
    """

    type: Literal["http.response.zerocopysend"]
    file: HasFileno
    offset: NotRequired[int]
    count: NotRequired[int]
    more_body: NotRequired[bool]


class HTTPResponseEarlyHintEvent(TypedDict):
    """Out, extension: a 103 response; ``links`` holds values of Link headers (RFC 8288).

    >>> HTTPResponseEarlyHintEvent(type="http.response.early_hint", links=[b"</a>; rel=preload"])
    {'type': 'http.response.early_hint', 'links': [b'</a>; rel=preload']}
    """

    type: Literal["http.response.early_hint"]
    links: Iterable[bytes]


class HTTPResponseDebugEvent(TypedDict):
    """Out, extension for test clients: details for the test, once, before the response starts.

    >>> HTTPResponseDebugEvent(type="http.response.debug", info={"template": "home.html"})
    {'type': 'http.response.debug', 'info': {'template': 'home.html'}}
    """

    type: Literal["http.response.debug"]
    info: dict[str, object]
