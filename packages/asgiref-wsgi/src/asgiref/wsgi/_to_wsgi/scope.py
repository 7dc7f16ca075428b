"""Converts PEP 3333's environ to an ASGI scope. Pure functions: no threads, no I/O.

Rules:

* The strings of an environ are bytes decoded as latin-1; an ASGI path is UTF-8.
* REQUEST_URI contains the path as the client sent it. It is used only if it decodes to SCRIPT_NAME
  and PATH_INFO, because a rewriting server or middleware changes only those.
* A header is accepted only under the key that PEP 3333 defines for it. HTTP_CONTENT_LENGTH, or a
  key with a character that servers never produce, could pose as another header.
* A Content-Length that is not a number, and a body whose end cannot be known, are rejected: guesses
  about a body's length allow request smuggling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

Environ = Mapping[str, Any]

_HEADER_KEY = re.compile(r"HTTP_[A-Z0-9_!#$%&'*+.^`|~]+")
_DIGITS = re.compile(r"[0-9]{1,18}")
_UNRESERVED = "/:@!$&'()*+,;=~-._"
_CGI_KEYS = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}
_DROPPED_KEYS = frozenset({"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"})


class RefusedRequest(ValueError):
    """A rejected request, which the adapter answers with `status` and an explanation."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def body_length(environ: Environ) -> int | None:
    """Return the length of the request's body; None if the body ends with the stream.

    Raises:
        RefusedRequest: the length is not a number, or the end of the body cannot be known.
    """
    text = str(environ.get("CONTENT_LENGTH") or "").strip(" \t")
    if text:
        if not _DIGITS.fullmatch(text):
            raise RefusedRequest(400, "Content-Length is not a number")
        return int(text)
    if not environ.get("HTTP_TRANSFER_ENCODING"):
        # Later versions of HTTP need neither header for a body.
        is_old = _http_version(environ).startswith("1")
        return 0 if is_old or not environ.get("wsgi.input_terminated") else None
    if environ.get("wsgi.input_terminated"):
        return None
    raise RefusedRequest(411, "This server needs a Content-Length")


def build_scope(environ: Environ) -> dict[str, Any]:
    """Return the scope of type ``http`` for a request."""
    root = _bytes(environ.get("SCRIPT_NAME") or "")
    path = root + _bytes(environ.get("PATH_INFO") or "")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": _http_version(environ),
        "method": str(environ["REQUEST_METHOD"]).upper(),
        "scheme": environ.get("wsgi.url_scheme") or "http",
        "path": _text(path),
        "raw_path": _raw_path(environ, path),
        "query_string": _bytes(environ.get("QUERY_STRING") or ""),
        "root_path": _text(root),
        "headers": _headers(environ),
        "client": _address(environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT"), 0),
        "server": _address(environ.get("SERVER_NAME"), environ.get("SERVER_PORT"), None),
        "extensions": {"http.response.pathsend": {}} if "wsgi.file_wrapper" in environ else {},
        "wsgi.environ": environ,
    }


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:  # a server or middleware that violates PEP 3333
        return text.encode("utf-8", "surrogatepass")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "replace")


def _http_version(environ: Environ) -> str:
    version: str = str(environ.get("SERVER_PROTOCOL") or "HTTP/1.1").rpartition("/")[2]
    return {"2.0": "2", "3.0": "3"}.get(version, version)


def _raw_path(environ: Environ, path: bytes) -> bytes:
    uri = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if isinstance(uri, str):
        raw = _bytes(uri).partition(b"?")[0]
        if not raw.startswith(b"/"):  # the absolute form: http://host/path
            raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
        if (unquote_to_bytes(raw) if b"%" in raw else raw) == path:
            return raw
    return quote_from_bytes(path, safe=_UNRESERVED).encode("ascii")


def _address(host: Any, port: Any, unknown_port: int | None) -> tuple[str, int | None] | None:
    if not host:
        return None
    digits = str(port or "")
    is_number = digits.isascii() and digits.isdigit()
    return str(host), int(digits[:18]) if is_number else unknown_port


def _headers(environ: Environ) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = _header_name(key)
        elif key in _CGI_KEYS and value:
            name = _CGI_KEYS[key]
        else:
            continue
        if name is not None:
            headers.append((name, _bytes(str(value))))
    return headers


@lru_cache(maxsize=512)
def _header_name(key: str) -> bytes | None:
    if key in _DROPPED_KEYS or len(key) > 256 or not _HEADER_KEY.fullmatch(key):
        return None
    return key[5:].lower().replace("_", "-").encode("ascii")
