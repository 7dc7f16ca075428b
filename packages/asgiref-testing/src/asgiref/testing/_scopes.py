"""The scopes of the helpers: what a server would make of a client's request.

A helper plays a server of today without extensions: HTTP and WebSocket 2.5, lifespan 2.0 with
state. Whatever a test wants otherwise (another ``http_version``, ``extensions``, a user that some
middleware would have found) it passes as ``scope``, and those keys win.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast
from urllib.parse import quote, unquote, urlsplit

from ._report import safe_repr

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header lines in order, as ASGI has them: pairs of a lower-case name and a value, as bytes."""

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""What the helpers take as headers: a mapping, or pairs where one name may come twice."""

Overrides: TypeAlias = Mapping[str, Any]
"""Keys of a scope."""

_NEVER_IN_HEADERS = re.compile(rb"[\r\n\x00]")
_CLIENT = ("127.0.0.1", 50000)
_HOST = "testserver"
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_STARTS_AS_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")  # a path may contain a URL
_KEPT_IN_URLS = "/%:@!$&'()*+,;=~?[]"


def connection_scope(
    kind: str, scheme: str, target: str, headers: HeadersLike, state: Overrides | None
) -> dict[str, Any]:
    """What the scopes of a request and of a socket have in common.

    ``target`` is a path with an optional query, or a whole URL.
    """
    before_query, _, query = target.partition("#")[0].partition("?")
    host, port = _HOST, None
    if _STARTS_AS_URL.match(before_query):
        parts = urlsplit(before_query)
        scheme, before_query = parts.scheme, parts.path or "/"
        host, port = parts.hostname or _HOST, parts.port
    lines = encoded(headers)
    if not has(lines, b"host"):
        lines.insert(0, (b"host", _authority(host, port)))
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": scheme,
        "path": unquote(before_query),
        "raw_path": quote(before_query, safe=_KEPT_IN_URLS).encode("ascii"),
        "query_string": quote(query, safe=_KEPT_IN_URLS).encode("ascii"),
        "root_path": "",
        "headers": lines,
        "client": _CLIENT,
        "server": (host, port or _PORTS.get(scheme, 80)),
    }
    return scope if state is None else {**scope, "state": dict(state)}


def _authority(host: str, port: int | None) -> bytes:
    """The value of the ``host`` header: an IPv6 address has brackets there."""
    if ":" in host:
        name = f"[{host}]".encode()
    else:
        name = host.encode("ascii" if host.isascii() else "idna")
    return name + (b":%d" % port if port else b"")


def encoded(headers: HeadersLike) -> Headers:
    """The headers as ASGI has them."""
    pairs: Iterable[tuple[str | bytes, str | bytes]]
    pairs = cast(Mapping[str, str], headers).items() if isinstance(headers, Mapping) else headers
    return [(_as_bytes(name).lower(), _as_bytes(value)) for name, value in pairs]


def decoded(headers: Iterable[Iterable[bytes]]) -> Headers:
    """What an application sent as headers (an iterable of any pairs), as a list of tuples."""
    return [(name, value) for name, value in headers]


def fault_of_headers(headers: Any) -> str | None:
    """Say what is wrong with headers that an application sent; None if nothing is."""
    lines: Any = headers
    if not isinstance(headers, Iterable) or isinstance(headers, str | bytes | Mapping):
        return f"headers that are no list of pairs, but {safe_repr(cast(object, headers))}"
    return next((fault for line in lines if (fault := _fault_of_header(line))), None)


def _fault_of_header(line: Any) -> str | None:
    if not isinstance(line, list | tuple) or len(cast(list[Any], line)) != 2:
        return f"a header that is no pair, but {safe_repr(cast(object, line))}"
    pair = cast(list[Any], line)
    if not all(isinstance(part, bytes) for part in pair):
        return f"a header with a name or value that is no bytes: {safe_repr(pair)}"
    if any(_NEVER_IN_HEADERS.search(part) for part in pair):
        return f"a header with a line break or a NUL in it: {safe_repr(pair)}"
    return None if pair[0] else f"a header without a name: {safe_repr(pair)}"


def has(headers: Headers, name: bytes) -> bool:
    """Whether there is a line of that name."""
    return any(each == name for each, _ in headers)


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
