"""The request's body on the server's thread: reads ``wsgi.input`` in chunks of limited size."""

from __future__ import annotations

from typing import Protocol

#: How many bytes are read at once, and thus how much of a request is held in memory.
CHUNK_SIZE = 131072


class SupportsRead(Protocol):
    def read(self, size: int, /) -> bytes: ...


class BodyBrokenOff(OSError):
    """The body ended before its Content-Length, because the client left."""


class RequestBody:
    """Reads exactly `length` bytes, or with None, up to the end of the stream."""

    __slots__ = ("_left", "_stream")

    def __init__(self, stream: SupportsRead, length: int | None) -> None:
        self._stream = stream
        self._left = length

    def read(self) -> tuple[bytes, bool]:
        """Read a chunk; return it, and whether more follows.

        Raises:
            Exception: any exception that the stream raises.
            BodyBrokenOff: the stream ended too early.
        """
        if self._left is None:
            chunk = self._stream.read(CHUNK_SIZE)
            return chunk, bool(chunk)
        chunk = self._stream.read(min(CHUNK_SIZE, self._left))
        self._left -= len(chunk)
        if not chunk and self._left:
            raise BodyBrokenOff(f"{self._left} bytes of the request's body did not arrive")
        return chunk, self._left > 0
