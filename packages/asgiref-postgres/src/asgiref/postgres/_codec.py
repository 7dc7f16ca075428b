"""Encoding and decoding of scopes and messages, and the errors that users see.

JSON objects start with ``{``, and msgpack maps with a byte above 127, so `decode` can tell them
apart.
"""

import json
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

#: The default maximum size of an encoded scope or message, in bytes.
MAX_SIZE = 1 << 20
#: The maximum length of the traceback stored with a dead letter, in characters.
_MAX_REASON = 8000

Encoder = Callable[[Any], bytes]


class PostgresServerError(Exception):
    """Base class of this package's errors."""


class CannotStart(PostgresServerError):
    """An option, the application or the database cannot be used, and retrying would not help."""


class SessionLost(PostgresServerError):
    """The database connection ended, so this process no longer owns its partitions."""


class LoopBlocked(SessionLost):
    """PostgreSQL ended the session because this process was silent, not because of an outage."""


def encoder(codec: str) -> Encoder:
    """Return the encoding function of the codec ``"json"`` or ``"msgpack"``.

    Raises:
        CannotStart: for another name, or if msgpack is not installed.
    """
    if codec == "json":
        return _to_json
    if codec != "msgpack":
        raise CannotStart(f"The codec must be 'json' or 'msgpack', not {codec!r}.")
    try:
        return cast(Encoder, import_module("msgpack").packb)
    except ImportError as error:
        raise CannotStart("Install msgpack to use the codec 'msgpack'.") from error


_from_text = json.JSONDecoder().decode
_to_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _to_json(value: Any) -> bytes:
    return _to_text(value).encode()


def encode(codec: Encoder, what: str, value: Any, max_size: int) -> bytes:
    """Encode a scope or message.

    Args:
        codec: a function that `encoder` returned.
        what: "scope" or "message", for errors.
        value: a dict with string keys.
        max_size: the maximum number of bytes.

    Raises:
        TypeError: if ``value`` is not a dict, or contains something that the codec cannot encode.
        ValueError: if the encoded value is too large.
    """
    if not isinstance(value, dict):
        raise TypeError(f"A {what} must be a dict, not {type(value).__name__!r}.")
    try:
        data = codec(cast(Any, value))
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise TypeError(f"The {what} cannot be encoded: {error}.") from error
    if len(data) > max_size:
        raise ValueError(f"The {what} has {len(data)} bytes; the maximum is {max_size}.")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Decode bytes that `encode` returned.

    Raises:
        ValueError: if the bytes cannot be read.
    """
    try:
        if data[:1] == b"{":
            return cast(dict[str, Any], _from_text(data.decode()))
        # The encoder accepts keys of any type, so the decoder must accept them too.
        value: object = import_module("msgpack").unpackb(data, strict_map_key=False)
    except ImportError as error:
        raise ValueError("msgpack is not installed, and the data is not JSON.") from error
    except Exception as error:  # msgpack's own errors; RecursionError for deep JSON
        raise ValueError(f"The data is neither JSON nor msgpack: {error!r:.1000}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"The data must be a mapping, not {type(value).__name__!r}.")
    return cast(dict[str, Any], value)


def check_scope_id(scope_id: object) -> str:
    """Return ``scope_id`` if PostgreSQL can store it.

    Raises:
        TypeError: if it is not a string.
        ValueError: if PostgreSQL cannot store it: it holds NUL or a lone surrogate, or is too long.
    """
    if not isinstance(scope_id, str):
        raise TypeError(f"A scope id must be a string, not {scope_id!r}.")
    if "\0" in scope_id or len(scope_id.encode()) > 1000:
        raise ValueError(f"A scope id must have at most 1,000 bytes and no NUL: {scope_id[:50]!r}.")
    return scope_id


def formatted(error: BaseException) -> str:
    """Return the end of the traceback from ``error``, in a form that PostgreSQL can store."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        text = f"{type(error).__name__}, whose text cannot be read"
    text = text if len(text) <= _MAX_REASON else "... " + text[-_MAX_REASON:]
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
