"""The response rules of PEP 3333: from the application's calls and chunks to ASGI events.

All code runs on the application's thread and does no I/O. Events go to a `Sink`, which may block or
raise ClientDisconnected. start_response checks the status line and all headers, so no invalid
header is ever sent. The headers are held until the first non-empty chunk or the end; until then,
the application may call start_response again with exc_info. The body never exceeds Content-Length.

The states and their transitions::

    NEW --start_response--> HELD --first non-empty chunk--> SENT --finish--> ENDED
                            HELD --finish------------------------------------> ENDED
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Container, Iterable
from functools import lru_cache
from typing import Protocol

from ._errors import Notices
from ._file_wrapper import FileWrapper, sending_event
from ._types import Event, ExcInfo

_STATUS = re.compile(r"([2-9][0-9][0-9])(?: [^\x00-\x1f\x7f]*)?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE_BREAKERS = re.compile(r"[\r\n\x00]")
_MAX_DIGITS = 18  # more digits than any real body's length
# The connection belongs to the server. Views set these when they relay another server's response,
# or set "chunked" in order to stream, but the body that they return is not encoded.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade"}
    | {"proxy-authenticate", "proxy-authorization", "proxy-connection"}
)
_BODYLESS_STATUSES = frozenset({204, 304})
# Applications repeat a few status lines and header names, so the results of checks are cached: this
# saves 1.3 µs for a response with two headers. Longer texts are not cached.
_CACHED_LENGTH = 64


class Sink(Protocol):
    """The destination of a response's events."""

    def append(self, event: Event, size: int) -> None:
        """Take an event that holds `size` bytes of body; never blocks."""

    def end(self, event: Event, size: int) -> None:
        """Take the event that ends the response, like `append`."""

    def flush(self) -> None:
        """Send the appended events now instead of with a later flush."""

    def watch(self) -> None:
        """Watch for the client leaving, even though no event was sent yet."""

    def wait_for_room(self) -> None:
        """Block while too much data waits for the client."""

    def wait_until_sent(self) -> None:
        """Block while any data waits for the client."""


class ResponseState(enum.Enum):
    NEW = "start_response was not called yet"
    HELD = "the headers wait for the first non-empty chunk"
    SENT = "the headers are sent"
    ENDED = "the response is complete"


def parse_status(status: object) -> int:
    """Return the code of a status line such as ``200 OK``; the reason phrase may be missing."""
    if type(status) is not str:
        if not isinstance(status, str):
            raise TypeError(f"status must be a str like '200 OK', not {status!r}")
        status = _exact(status)
    return _cached_code(status) if len(status) <= _CACHED_LENGTH else _code_of(status)


def _code_of(status: str) -> int:
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(
            f"status must be a three-digit code from 200 up, a space and a reason, not {status!r}"
        )
    return int(match[1])


def parse_headers(
    headers: Iterable[tuple[object, object]],
    on_dropped: Callable[[str], None] | None = None,
) -> tuple[list[tuple[bytes, bytes]], int | None]:
    """Check the application's headers; return them in ASGI's form, with the Content-Length.

    `on_dropped` is called with the name of each header that belongs to the server.
    """
    pairs: list[tuple[bytes, bytes]] = []
    content_length: int | None = None
    for name, value in headers:
        if type(name) is not str or type(value) is not str:
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"header names and values must be str, not {name!r}: {value!r}")
            name, value = _exact(name), _exact(value)
        lower = _cached_name(name) if len(name) <= _CACHED_LENGTH else _encode_name(name)
        if lower is None:
            if on_dropped is not None:
                on_dropped(name)
            continue
        encoded = _encode_value(name, value)
        pairs.append((lower, encoded))
        if lower == b"content-length":
            length = _check_content_length(encoded, content_length)
            if content_length is not None:
                pairs.pop()  # it repeats the same length
            content_length = length
    return pairs, content_length


def _exact(text: str) -> str:
    """Return the text as an exact str: a subclass may override any method, even the hash."""
    return text if type(text) is str else str.__str__(text)


def _encode_name(name: str) -> bytes | None:
    """Return the name in ASGI's form; None for a header that belongs to the server."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a token (RFC 9110, 5.6.2)")
    lower = name.lower()
    return None if lower in HOP_BY_HOP else lower.encode("ascii")


def _encode_value(name: str, value: str) -> bytes:
    if not value.isprintable() and _LINE_BREAKERS.search(value):
        raise ValueError(f"the value of header {name} contains a line break or NUL: {value!r}")
    try:
        return value.strip(" \t").encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"the value of header {name} is not latin-1: {value!r}") from None


def _check_content_length(value: bytes, previous: int | None) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        text = value.decode("latin-1")
        raise ValueError(f"the header Content-Length must be a number of bytes, not {text!r}")
    length = int(value)
    if previous is not None and previous != length:
        raise ValueError(f"the headers give two Content-Lengths, {previous} and {length}")
    return length


def _as_bytes(chunk: object) -> bytes:
    if isinstance(chunk, bytes | bytearray | memoryview):
        # Copy, because the application may reuse its buffer. Use the buffer protocol, because a
        # subclass may override any method.
        view: memoryview[int] = memoryview(chunk)  # pyright: ignore[reportUnknownArgumentType]
        return view.tobytes()
    raise TypeError(f"a WSGI application must send bytes, not {type(chunk).__name__}")


_cached_code = lru_cache(maxsize=256)(_code_of)
_cached_name = lru_cache(maxsize=512)(_encode_name)

# Looking up a member on its class is slow, and would happen several times for each chunk.
_NEW, _HELD, _SENT, _ENDED = (
    ResponseState.NEW,
    ResponseState.HELD,
    ResponseState.SENT,
    ResponseState.ENDED,
)


class Response:
    """One response: the state machine behind start_response, write() and the returned iterable."""

    __slots__ = (
        "_bodyless",
        "_bytes_sent",
        "_empty_chunk_held",
        "_notices",
        "_offers",
        "_sink",
        "content_length",
        "start_event",
        "state",
    )

    def __init__(self, notices: Notices | None = None) -> None:
        self._notices = notices or Notices()
        self.state = _NEW
        self.start_event: Event | None = None
        self.content_length: int | None = None
        self._sink: Sink | None = None
        self._bodyless = False
        self._bytes_sent = 0
        self._empty_chunk_held = False
        self._offers: Container[str] = ()

    def attach(self, sink: Sink, head: bool, offers: Container[str] = ()) -> None:
        """Set the sink, whether the request's method is HEAD, and the server's extensions."""
        self._sink = sink
        self._bodyless = head
        self._offers = offers

    def start(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """PEP 3333's start_response; returns write().

        Raises ValueError or TypeError for a status line or header that must not be sent, ValueError
        for a second call without exc_info, and the exception in exc_info if the headers were sent.
        """
        if exc_info is None:
            if self.state is not _NEW:
                raise ValueError("start_response was called a second time without exc_info")
        elif self.state in (_SENT, _ENDED):
            try:
                if exc_info[1] is None:
                    raise ValueError("exc_info is empty")
                raise BaseException.with_traceback(exc_info[1], exc_info[2])
            finally:
                exc_info = None  # its traceback would hold this frame, which holds exc_info
        code = parse_status(status)
        pairs, self.content_length = parse_headers(headers, self._warn_of_dropped)
        self.start_event = {"type": "http.response.start", "status": code, "headers": pairs}
        self.state = _HELD
        return self.write

    def _warn_of_dropped(self, name: str) -> None:
        self._notices.warn(
            f"header {name.lower()}",
            "The header %s of the WSGI application belongs to the server and was dropped.",
            name,
        )

    def write(self, data: bytes) -> None:
        """PEP 3333's write(): passes the data to the server, and blocks while too much data waits
        for the client."""
        if self.state is _ENDED or self._sink is None:
            raise RuntimeError("write() was called after the response was complete")
        self.add(data)
        self._sink.flush() if self.state is _SENT else self._sink.watch()
        self._sink.wait_for_room()

    def relay(self, iterable: Iterable[bytes]) -> None:
        """Send the chunks of the returned iterable, then the final event.

        All chunks of a list are ready, so there is no point in waking the event loop before the
        last. Any other iterable may be slow to yield the next chunk, so each chunk is flushed.
        """
        assert self._sink is not None
        sink = self._sink
        if self._offers and type(iterable) is FileWrapper and self._send_file(iterable):
            return
        at_hand = type(iterable) in (list, tuple)
        if not (at_hand or hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")):
            kind = type(iterable).__name__
            raise TypeError(f"the WSGI application returned {kind}, not an iterable of bytes")
        for chunk in iterable:
            self.add(chunk)
            is_sent = self.state is _SENT
            if is_sent and (self._bodyless or self._bytes_sent == self.content_length):
                break  # any further chunk would be dropped
            if not at_hand:
                sink.flush() if is_sent else sink.watch()
            sink.wait_for_room()
        self.finish()

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Make the server send the file, and wait until it has, because the file is closed next."""
        left = None if self.content_length is None else self.content_length - self._bytes_sent
        file_event = sending_event(wrapper, self._offers, left, at_start=not self._bytes_sent)
        if file_event is None:
            return False
        if self.state is not _SENT:
            self._send_start()
        if self._bodyless:
            return False
        assert self._sink is not None
        event, size = file_event
        self.state = _ENDED
        self._sink.end(event, size)
        self._sink.wait_until_sent()
        return True

    def add(self, chunk: bytes) -> None:
        """Append one chunk, truncated at Content-Length."""
        data = chunk if type(chunk) is bytes else _as_bytes(chunk)
        if self.state is not _SENT:
            if not data:
                self._empty_chunk_held = True
                return
            self._send_start()
        if self._bodyless:
            return
        if self.content_length is not None:
            data = data[: self.content_length - self._bytes_sent]
        if data:
            assert self._sink is not None
            size = len(data)
            self._bytes_sent += size
            self._sink.append({"type": "http.response.body", "body": data, "more_body": True}, size)

    def finish(self) -> None:
        """End the response; raises RuntimeError if the body is shorter than Content-Length.

        In that case, the final event is not sent, so the client sees a broken response, not a short
        one.
        """
        assert self._sink is not None
        if self.state is not _SENT:
            self._send_start()
            if self._empty_chunk_held and not self._bodyless:
                empty = {"type": "http.response.body", "body": b"", "more_body": True}
                self._sink.append(empty, 0)
        self.state = _ENDED
        promised = self.content_length
        if promised is not None and self._bytes_sent < promised and not self._bodyless:
            raise RuntimeError(
                f"the WSGI application sent {self._bytes_sent} of the {promised} bytes"
                " that its Content-Length promised"
            )
        self._sink.end({"type": "http.response.body"}, 0)

    def _send_start(self) -> None:
        if self.start_event is None:
            raise RuntimeError("the WSGI application sent a body before it called start_response")
        assert self._sink is not None
        start = self.start_event
        if start["status"] in _BODYLESS_STATUSES:
            # Servers check the body against Content-Length, and this response has no body.
            self._bodyless = True
            start["headers"] = [pair for pair in start["headers"] if pair[0] != b"content-length"]
        self.state = _SENT
        self._sink.append(start, 0)
