"""Converts an ASGI scope to PEP 3333's environ dictionary. Pure functions: no threads, no I/O.

Rules:

* Strings in an environ are "native": bytes decoded as latin-1, so that the application can
  recover the bytes (PEP 3333, "Unicode Issues").
* SCRIPT_NAME is removed from the path only at the end of a path segment: ``/app`` is not a prefix
  of ``/application``.
* No header can pose as another header or variable; see `environ_key`.
* An ambiguous request (a Content-Length that is not a number, or two that disagree) is a
  ``BadRequest``. The adapter never guesses the length of a body: guesses allow request smuggling.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ._file_wrapper import FileWrapper
from ._types import Scope

HeaderPairs = Iterable[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MAX_DIGITS = 18  # more digits than any real body's length; keeps int() cheap
_MAX_KNOWN_LENGTH = 64
_MAX_KNOWN_KEYS = 512
_KEYS = {
    b"content-type": "CONTENT_TYPE",
    b"content-length": "CONTENT_LENGTH",
    b"transfer-encoding": "TRANSFER_ENCODING",  # until `_settle_content_length`
}
# The server has decoded the body; an application that saw HTTP_TRANSFER_ENCODING would decode it
# again.
_DROPPED_KEYS = frozenset(
    {"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}
)
_DEFAULT_PORTS = {"https": "443"}


class BadRequest(ValueError):
    """The adapter answers the request with status 400 and `detail`."""

    def __init__(self, detail: str, explanation: str | None = None) -> None:
        super().__init__(explanation or detail)
        self.detail = detail


@dataclass(slots=True)
class Framing:
    """What the headers say about the length of the request's body.

    `length` is None if only the ASGI messages show where the body ends.
    """

    length: int | None = None
    is_encoded: bool = False
    expects_continue: bool = False


_FRAMING_NAME_LENGTHS = frozenset({len("expect"), len("content-length"), len("transfer-encoding")})


def read_framing(headers: HeaderPairs) -> Framing:
    """Read the headers that determine the length of the request's body.

    Raises BadRequest for a Content-Length that is not a number, or several that disagree.
    """
    framing = Framing()
    lengths: list[bytes] = []
    for name, value in headers:
        if len(name) not in _FRAMING_NAME_LENGTHS:  # saves 2 µs per request
            continue
        lower = name.lower()
        if lower == b"expect":
            framing.expects_continue = value.strip().lower() == b"100-continue"
        elif lower == b"content-length":
            lengths.append(value)
        elif lower == b"transfer-encoding":
            framing.is_encoded = True
    if lengths and not framing.is_encoded:
        framing.length = parse_content_length(lengths)
    return framing


def may_lack_length(scope: Scope, framing: Framing) -> bool:
    """Whether there may be a body whose length the headers do not give.

    HTTP/1 requests with neither Content-Length nor Transfer-Encoding have no body (RFC 9112, 6.3);
    in later versions every request may have one.
    """
    if framing.length is not None:
        return False
    return framing.is_encoded or not (scope.get("http_version") or "1.1").startswith("1")


def parse_content_length(values: Sequence[bytes]) -> int | None:
    """Return the length that all Content-Length fields agree on, or None if there are none."""
    if len(values) == 1 and _is_length(values[0]):
        return int(values[0])  # the usual case
    lengths: set[int] = set()
    for value in values:
        for part in value.split(b","):
            digits = part.strip(b" \t")
            if not _is_length(digits):
                raise BadRequest(
                    "Content-Length is not a number", f"Content-Length is not a number: {value!r}"
                )
            lengths.add(int(digits))
    if len(lengths) > 1:
        raise BadRequest(
            "Conflicting Content-Length headers",
            f"Content-Length headers conflict: {sorted(lengths)}",
        )
    return lengths.pop() if lengths else None


def _is_length(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _MAX_DIGITS


def build_environ(
    scope: Scope,
    body: object,
    duplicate_header_limit: int | None,
    allow_underscores: bool,
    multithread: bool,
    body_length: int | None = None,
    client_connected: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Return the environ of one request; raises BadRequest if the headers cannot be trusted.

    `body_length` is the length of a body that has arrived completely.
    """
    scheme = scope.get("scheme") or "http"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "QUERY_STRING": (scope.get("query_string") or b"").decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version') or '1.1'}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,  # the stream ends with the body, with or without a length
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,  # other processes may serve the same application
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "asgi.scope": scope,
    }
    if client_connected is not None:
        environ["asgiref.client_connected"] = client_connected
    if scheme == "https":
        environ["HTTPS"] = "on"
    _add_paths(environ, scope)
    _add_addresses(environ, scope, scheme)
    _add_headers(environ, scope.get("headers") or (), duplicate_header_limit, allow_underscores)
    _settle_content_length(environ)
    if body_length:
        environ.setdefault("CONTENT_LENGTH", str(body_length))
    return environ


# Paths


def _add_paths(environ: dict[str, Any], scope: Scope) -> None:
    root, path = scope.get("root_path") or "", scope["path"]
    script_name = _native(root).rstrip("/") if root else ""
    if script_name and not script_name.startswith("/"):
        script_name = "/" + script_name
    full_path = path if path.isascii() else _recovered_path(scope, root, path)
    environ["SCRIPT_NAME"] = script_name
    environ["PATH_INFO"] = _below(script_name, full_path) if script_name else full_path

    raw_path = scope.get("raw_path")
    if raw_path:
        uri = raw_path.partition(b"?")[0].decode("latin-1")
    else:
        uri = quote_from_bytes(full_path.encode("latin-1"), safe="/:@!$&'()*+,;=~-._")
    query = environ["QUERY_STRING"]
    environ["REQUEST_URI"] = f"{uri}?{query}" if query else uri


def _below(script_name: str, path: str) -> str:
    """Return `path` without the prefix `script_name`, or unchanged if it has no such prefix."""
    if path == script_name or path.startswith(script_name + "/"):
        return path[len(script_name) :]
    return path  # the server has already removed the root path


def _native(text: str) -> str:
    return text if text.isascii() else _encode(text).decode("latin-1")


def _encode(text: str) -> bytes:
    """Encode as UTF-8 without failing: surrogate escapes become the original bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _recovered_path(scope: Scope, root: str, path: str) -> str:
    """Return `path` in native form, and restore the bytes that the server's decoding replaced.

    Servers decode the percent-encoded path as UTF-8 and replace invalid bytes. `raw_path` has the
    original bytes, but is used only if it decodes to this `path`, because middleware may have
    changed `path` alone.
    """
    raw_path = scope.get("raw_path")
    if raw_path:
        data = unquote_to_bytes(raw_path.partition(b"?")[0])
        for decoded in (data.decode("utf-8", "replace"), data.decode("latin-1")):
            if decoded == path:
                return data.decode("latin-1")
            if root + decoded == path:
                return _native(root) + data.decode("latin-1")
    return _native(path)


# Addresses


def _add_addresses(environ: dict[str, Any], scope: Scope, scheme: str) -> None:
    server = scope.get("server")
    if server is None:
        environ["SERVER_NAME"] = "localhost"
        environ["SERVER_PORT"] = _DEFAULT_PORTS.get(scheme, "80")
    else:  # a Unix socket has a path and no port
        environ["SERVER_NAME"] = str(server[0])
        environ["SERVER_PORT"] = str(server[1] or 0)
    client = scope.get("client")
    if client is not None:
        environ["REMOTE_ADDR"] = str(client[0])
        if client[1] is not None:
            environ["REMOTE_PORT"] = str(client[1])


# Headers


def _add_headers(
    environ: dict[str, Any], headers: HeaderPairs, limit: int | None, allow_underscores: bool
) -> None:
    repeated: dict[str, list[str]] = {}
    keys = _KNOWN_KEYS[allow_underscores]
    for name, value in headers:
        key = keys[name]
        if key is None:
            continue
        text = value.decode("latin-1")
        if key not in environ:  # no other variable has a header's key
            environ[key] = text
            continue
        texts = repeated.setdefault(key, [environ[key]])
        if limit and len(texts) >= limit:
            raise BadRequest(
                "Too many duplicate headers",
                f"Too many duplicate headers: {key} occurred more than {limit} times",
            )
        texts.append(text)
    for key, texts in repeated.items():
        environ[key] = ("; " if key == "HTTP_COOKIE" else ",").join(texts)


def _settle_content_length(environ: dict[str, Any]) -> None:
    if environ.pop("TRANSFER_ENCODING", None) is not None:
        environ.pop("CONTENT_LENGTH", None)  # Transfer-Encoding overrides it (RFC 9112, 6.3)
    elif (value := environ.get("CONTENT_LENGTH")) is not None:
        environ["CONTENT_LENGTH"] = str(parse_content_length([value.encode("latin-1")]))


def environ_key(name: bytes, allow_underscores: bool) -> str | None:
    """Return the environ key of a header, or None if it must not reach the application.

    ``X_User`` and ``X-User`` would both become ``HTTP_X_USER``. Behind a proxy that strips only one
    of them, a client could then pose as any user, so names with an underscore are dropped.
    ``Proxy`` is dropped too: it would become ``HTTP_PROXY``, which HTTP clients inside the
    application read as their own configuration.
    """
    lower = name.lower()
    if lower in _KEYS:
        return _KEYS[lower]
    if not _TOKEN.fullmatch(lower) or (b"_" in lower and not allow_underscores):
        return None
    key = "HTTP_" + lower.decode("ascii").upper().replace("-", "_")
    return None if key in _DROPPED_KEYS else key


class _KnownKeys(dict[bytes, "str | None"]):
    """Caches the environ keys of header names, because clients repeat the same few names."""

    def __init__(self, allow_underscores: bool) -> None:
        super().__init__()
        self._allow_underscores = allow_underscores

    def __missing__(self, name: bytes) -> str | None:
        key = environ_key(name, self._allow_underscores)
        # Limit the length and number of names, so that no client can exhaust the memory.
        if len(name) <= _MAX_KNOWN_LENGTH:
            if len(self) >= _MAX_KNOWN_KEYS:
                self.clear()
            self[name] = key
        return key


_KNOWN_KEYS = (_KnownKeys(False), _KnownKeys(True))
