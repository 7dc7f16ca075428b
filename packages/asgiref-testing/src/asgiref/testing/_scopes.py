"""Builds the scopes of the helpers, and checks the headers that an application sends.

A helper acts as a server without extensions: HTTP and WebSocket 2.5, lifespan 2.0 with state. A
test passes other keys (another ``http_version``, ``extensions``, a user) as ``scope``; those keys
take precedence.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast
from urllib.parse import quote, unquote, urlsplit

from ._report import safe_repr

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header lines in order, as in ASGI: pairs of a lower-case name and a value, as bytes."""

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""The headers that a helper accepts: a mapping, or pairs in which a name may be repeated."""

Overrides: TypeAlias = Mapping[str, Any]
"""Keys of a scope."""

_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEVER_IN_VALUES = re.compile(rb"[\r\n\x00]")
_CLIENT = ("127.0.0.1", 50000)
_HOST = "testserver"
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_STARTS_AS_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")  # a path may contain a URL
_KEPT_IN_URLS = "/%:@!$&'()*+,;=~?[]"


def connection_scope(
    kind: str, scheme: str, target: str, headers: HeadersLike, state: Overrides | None
) -> dict[str, Any]:
    """Return the keys that the scopes of a request and of a websocket have in common.

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


def extensions_of(scope: Overrides) -> frozenset[str]:
    """Return the names of the extensions that a scope offers."""
    return frozenset(scope.get("extensions") or ())


def _authority(host: str, port: int | None) -> bytes:
    """Return the value of the ``host`` header, with brackets around an IPv6 address."""
    if ":" in host:
        name = f"[{host}]".encode()
    else:
        name = host.encode("ascii" if host.isascii() else "idna")
    return name + (b":%d" % port if port else b"")


def encoded(headers: HeadersLike) -> Headers:
    """Return the headers in ASGI's form."""
    pairs: Iterable[tuple[str | bytes, str | bytes]]
    pairs = cast(Mapping[str, str], headers).items() if isinstance(headers, Mapping) else headers
    return [(_as_bytes(name).lower(), _as_bytes(value)) for name, value in pairs]


def decoded(headers: Iterable[Iterable[bytes]]) -> Headers:
    """Return the headers that an application sent (an iterable of pairs) as a list of tuples."""
    return [(name, value) for name, value in headers]


def fault_of_headers(headers: Any) -> str | None:
    """Describe the fault in the headers that an application sent; None if there is none."""
    lines: Any = headers
    if not isinstance(headers, Iterable) or isinstance(headers, str | bytes | Mapping):
        return f"headers that are not a list of pairs: {safe_repr(cast(object, headers))}"
    return next((fault for line in lines if (fault := _fault_of_header(line))), None)


def _fault_of_header(line: Any) -> str | None:
    if not isinstance(line, list | tuple) or len(cast(list[Any], line)) != 2:
        return f"a header that is not a pair: {safe_repr(cast(object, line))}"
    pair = cast(list[Any], line)
    if not all(isinstance(part, bytes) for part in pair):
        return f"a header with a name or value that is not bytes: {safe_repr(pair)}"
    name, value = pair
    if not _HEADER_NAME.fullmatch(name):
        return f"a header whose name is empty or has characters not allowed there: {pair!r}"
    if _NEVER_IN_VALUES.search(value):
        return f"a header with a line break or a NUL in its value: {pair!r}"
    if value != value.strip(b" \t"):
        return f"a header whose value starts or ends with whitespace: {pair!r}"
    return None


def declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int | str | None:
    """Return the ``content-length`` of valid headers, None if it is absent, or its fault."""
    values = {value for name, value in headers if name.lower() == b"content-length"}
    if not values or any(name.lower() == b"transfer-encoding" for name, _ in headers):
        return None
    if len(values) > 1:
        return f"different values of content-length: {sorted(values)!r}"
    [value] = values
    # int() would accept signs, underscores and spaces too.
    return int(value) if value.isdigit() else f"a content-length that is not a number: {value!r}"


def has(headers: Headers, name: bytes) -> bool:
    """Return whether there is a header line with that name."""
    return any(each == name for each, _ in headers)


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
