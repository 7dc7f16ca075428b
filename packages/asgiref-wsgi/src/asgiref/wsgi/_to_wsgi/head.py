"""Converts ``http.response.start`` to the arguments of start_response. Pure functions.

`send` detects every error in a status or a header, so that the traceback shows the line in the
application.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

from .._response import HOP_BY_HOP

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE_BREAKERS = re.compile(rb"[\r\n\x00]")
_DIGITS = re.compile(rb"[0-9]{1,18}")
# The connection belongs to the server: PEP 3333 forbids applications to set these.
_HOP_BY_HOP = frozenset(name.encode() for name in HOP_BY_HOP)
# PEP 3333's validator rejects a content type for these; 204 must not have a length (RFC 9110, 8.6).
_DROPPED_BY_STATUS = {204: {b"content-type", b"content-length"}, 304: {b"content-type"}}
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_CACHED_NAME_LENGTH = 64


@dataclass(slots=True)
class Head:
    """Status and headers of a response, as start_response takes them."""

    status: str
    headers: list[tuple[str, str]]
    content_length: int | None
    has_body: bool
    """False for a response to HEAD, and for 204 and 304."""


def parse_head(event: dict[str, Any], method: str) -> Head:
    """Check the event and convert it.

    Raises:
        TypeError: a header is not made of bytes.
        ValueError: the status or a header must not be sent.
    """
    status = event["status"]
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError(f"the status of http.response.start must be 200 to 999, not {status!r}")
    headers, content_length = _parse_headers(
        event.get("headers") or (), _DROPPED_BY_STATUS.get(status, frozenset())
    )
    has_body = method != "HEAD" and status not in _DROPPED_BY_STATUS
    line = _STATUS_LINES.get(status) or f"{int(status)} Unknown"
    return Head(line, headers, content_length, has_body)


def _parse_headers(
    pairs: Iterable[tuple[bytes, bytes]], dropped: Iterable[bytes]
) -> tuple[list[tuple[str, str]], int | None]:
    headers: list[tuple[str, str]] = []
    content_length: int | None = None
    for name, value in pairs:
        if type(name) is not bytes or type(value) is not bytes:
            name, value = exact_bytes(name, "a header name"), exact_bytes(value, "a header value")
        lookup = _cached_name if len(name) <= _CACHED_NAME_LENGTH else _native_name
        native = lookup(name)
        if _LINE_BREAKERS.search(value):
            raise ValueError(f"the value of header {native} contains a line break or NUL")
        lower = name.lower()
        if lower in _HOP_BY_HOP or lower in dropped:
            continue
        if lower == b"content-length":
            length = _parse_length(value, content_length)
            if content_length is not None:
                continue  # it repeats the same length
            content_length = length
        headers.append((native, value.strip(b" \t").decode("latin-1")))
    return headers, content_length


def exact_bytes(part: object, name: str) -> bytes:
    """Copy any bytes-like object to bytes; raises TypeError for other objects."""
    if not isinstance(part, bytes | bytearray | memoryview):
        raise TypeError(f"{name} must be bytes, not {type(part).__name__}")
    return bytes(cast("bytes", part))


def _native_name(name: bytes) -> str:
    """Return ``b"content-type"`` as ``"Content-Type"``, the form that middleware expects."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a token (RFC 9110, 5.6.2)")
    return "-".join(part.capitalize() for part in name.decode("ascii").split("-"))


_cached_name = lru_cache(maxsize=512)(_native_name)


def _parse_length(value: bytes, previous: int | None) -> int:
    digits = value.strip(b" \t")
    if not _DIGITS.fullmatch(digits):
        raise ValueError(f"the header Content-Length must be a number of bytes, not {value!r}")
    length = int(digits)
    if previous is not None and previous != length:
        raise ValueError(f"the headers give two Content-Lengths, {previous} and {length}")
    return length
