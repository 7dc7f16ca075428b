"""Scopes and messages as bytes: JSON, or msgpack where that is installed. Never pickle.

What is written is tagged by its first byte (JSON's braces, msgpack's marks for maps are others), so
a reader needs no setting, and both ends can change from one to the other one process at a time.

What is read may have been written by anybody who reaches Redis: it is bounded in size before it is
decoded, and decoding makes nothing but dicts, lists, strings, bytes and numbers.
"""

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from ._errors import CannotStart

#: Bytes of an encoded scope or message, unless told otherwise.
MAX_SIZE = 1 << 20
MAX_ID = 512

Encode = Callable[[Mapping[str, Any]], bytes]


class Malformed(ValueError):
    """Bytes that no gateway or worker of ours has written."""


def encoder(name: str) -> Encode:
    """The function that encodes as ``name`` says, ``"json"`` or ``"msgpack"``.

    Raises:
        CannotStart: if there is none.
    """
    if name == "json":
        return _encode_json
    if name != "msgpack":
        raise CannotStart(f"The codec must be 'json' or 'msgpack', not {name!r}.")
    if _msgpack is None:
        raise CannotStart("The codec 'msgpack' needs msgpack: pip install asgiref-redis[msgpack].")
    packer = _msgpack

    def encode_msgpack(value: Mapping[str, Any]) -> bytes:
        try:
            return cast(bytes, packer.packb(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"msgpack cannot carry {_short(value)}: {error}.") from None

    return encode_msgpack


def _encode_json(value: Mapping[str, Any]) -> bytes:
    try:
        return _json(value).encode()
    except (TypeError, ValueError) as error:
        hint = " (the codec 'msgpack' carries bytes)" if "bytes" in str(error) else ""
        raise TypeError(f"JSON cannot carry {_short(value)}: {error}{hint}.") from None


def checked(encode: Encode, what: str, value: object, limit: int) -> bytes:
    """The encoded ``value``, a mapping.

    Raises:
        TypeError: if it is no mapping or holds what cannot be carried.
        ValueError: if it is larger than ``limit`` bytes.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError(f"A {what} that goes through Redis must be a mapping, not {_short(value)}.")
    data = encode(cast("Mapping[str, Any]", value))
    if len(data) > limit:
        raise ValueError(f"The {what} has {len(data)} bytes, of which {limit} are allowed.")
    return data


def check_scope_id(scope_id: object) -> str:
    """Give ``scope_id``. Raises TypeError or ValueError if it cannot name a scope in Redis."""
    if not isinstance(scope_id, str):
        raise TypeError(
            f"A scope id must be a str here, to mean the same on every host, not {scope_id!r}."
        )
    if len(scope_id.encode()) > MAX_ID:
        raise ValueError(f"A scope id may have {MAX_ID} bytes, not {len(scope_id.encode())}.")
    return scope_id


def decode(data: bytes | None, limit: int) -> dict[str, Any]:
    """What ``data`` says.

    Raises:
        Malformed: if it is missing, too large, or not a map in one of the two formats.
    """
    if data is None:
        raise Malformed("a field is missing")
    if len(data) > limit:
        raise Malformed(f"{len(data)} bytes, of which {limit} are allowed")
    try:
        value = _from_json(data.decode()) if data[:1] == b"{" else _unpacked(data)
    except Malformed:
        raise
    except Exception as error:  # msgpack has many; RecursionError
        raise Malformed(f"neither JSON nor msgpack: {error}") from None
    if not isinstance(value, dict):
        raise Malformed("not a map")
    return cast("dict[str, Any]", value)


def _unpacked(data: bytes) -> object:
    if _msgpack is None:
        raise Malformed("not JSON, and msgpack is not installed")
    return cast(object, _msgpack.unpackb(data))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_from_json = json.JSONDecoder().decode  # json.loads would guess the encoding, for 2 µs
_msgpack = _optional("msgpack")
