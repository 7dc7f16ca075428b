"""HTTP: the ASGI HTTP specification 2.5 and its extensions.

A scope is one request. In: `HTTPRequestEvent` until ``more_body`` is false, later
`HTTPDisconnectEvent`. Out: `HTTPResponseStartEvent`, then body events until ``more_body`` is false.
An extension may be used only where ``scope["extensions"]`` holds its name, which is the type of its
event (``"http.response.push"``, for example).
"""

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, Protocol, TypedDict

from ._common import ASGIVersions, Extensions, Headers


class HTTPScope(TypedDict):
    """One HTTP request.

    ``path`` is decoded, ``raw_path`` and ``query_string`` are the bytes as they came; ``root_path``
    is where the application is mounted. ``client`` and ``server`` are (host, port), or for a unix
    socket (path, None). ``state`` is this request's shallow copy of the lifespan's.
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
    """In: a piece of the request's body, the last one unless ``more_body`` is true."""

    type: Literal["http.request"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class HTTPDisconnectEvent(TypedDict):
    """In: the client has gone, or the response is complete."""

    type: Literal["http.disconnect"]


class HTTPResponseStartEvent(TypedDict):
    """Out: status and headers. With ``trailers`` true, a trailers event follows the body."""

    type: Literal["http.response.start"]
    status: int
    headers: NotRequired[Headers]
    trailers: NotRequired[bool]


class HTTPResponseBodyEvent(TypedDict):
    """Out: a piece of the response's body, the last one unless ``more_body`` is true."""

    type: Literal["http.response.body"]
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class HTTPResponseTrailersEvent(TypedDict):
    """Out, extension: headers after the body, the last ones unless ``more_trailers`` is true."""

    type: Literal["http.response.trailers"]
    headers: Headers
    more_trailers: NotRequired[bool]


class HTTPResponsePathsendEvent(TypedDict):
    """Out, extension: in place of body events, the file at the absolute ``path`` is the body."""

    type: Literal["http.response.pathsend"]
    path: str


class HTTPServerPushEvent(TypedDict):
    """Out, extension: announce (HTTP/2 push) that the client will want the decoded ``path``."""

    type: Literal["http.response.push"]
    path: str
    headers: Headers


class HasFileno(Protocol):
    """A file with a descriptor of the operating system: an opened file, not an ``io.BytesIO``."""

    def fileno(self) -> int: ...


class HTTPResponseZeroCopySendEvent(TypedDict):
    """Out, extension: a piece of the body that the operating system copies from ``file``.

    ``offset`` and ``count`` are in bytes; without them the copy begins at the file's position and
    ends at its end. The application keeps the file and closes it.
    """

    type: Literal["http.response.zerocopysend"]
    file: HasFileno
    offset: NotRequired[int]
    count: NotRequired[int]
    more_body: NotRequired[bool]


class HTTPResponseEarlyHintEvent(TypedDict):
    """Out, extension: a 103 response; ``links`` are values of Link headers (RFC 8288)."""

    type: Literal["http.response.early_hint"]
    links: Iterable[bytes]


class HTTPResponseDebugEvent(TypedDict):
    """Out, extension of test clients: details for the test, once, before the response starts."""

    type: Literal["http.response.debug"]
    info: dict[str, object]
