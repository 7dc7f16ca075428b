"""The request's body, from ASGI messages to ``wsgi.input``.

If the first message holds the whole body, the stream is a BytesIO. Any other body passes from the
event loop to the application's thread like this::

    receive() --> pump (a task of the request) --> buffer --> RequestStream --> io.BufferedReader

The pump starts with the application's first read, or when the request must notice if its client
leaves. There is one pump, so no two awaits of `receive` overlap. Only the pump appends to the
buffer and only the application's thread takes from it; each side counts its own bytes. If the body
is cut off, the reader gets an OSError, never a short body.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ._errors import LOOP_ENDED, BodyTooLarge, ClientDisconnected, safe_repr
from ._loop_end import CHECK_SECONDS, has_ended
from ._tasks import start_task
from ._two_sided_wait import Lend, TwoSidedWait
from ._types import Receive

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MESSAGE_OVERHEAD = 64
"""The memory of a message in addition to its data: the bytes object's header and a deque slot."""
READ_AHEAD = 4 * (64 * 1024 + MESSAGE_OVERHEAD)
"""The capacity of the buffer in bytes of memory. A single larger message still fits."""
_OVER = "the request is over"


class RequestInput:
    """The body of one request between `receive` and the application's thread.

    Two callbacks run on the event loop's thread: `on_disconnect` when the client has left, and
    `on_too_large` when its body exceeds `maximum` while the application runs. The application's
    thread blocks for long periods only inside the context manager that `lend` returns (see
    `_workers`).
    """

    __slots__ = (
        "_cause",
        "_chunks",
        "_context",
        "_failure",
        "_is_asked",
        "_largest",
        "_loop",
        "_maximum",
        "_on_disconnect",
        "_on_too_large",
        "_pump",
        "_receive",
        "_received",
        "_taken",
        "_thread",
        "_wait",
        "complete",
        "was_read",
    )

    def __init__(
        self,
        receive: Receive,
        loop: asyncio.AbstractEventLoop,
        on_disconnect: Callable[[], None],
        lend: Lend,
        maximum: int | None = None,
        on_too_large: Callable[[], None] | None = None,
    ) -> None:
        self._receive = receive
        self._loop = loop
        self._thread = threading.get_ident()
        self._on_disconnect = on_disconnect
        self._on_too_large = on_too_large
        self._maximum = maximum
        self._context = contextvars.copy_context()  # the pump runs in the request's context
        self._wait = TwoSidedWait(lend)
        self._chunks: deque[bytes | memoryview] = deque()
        self._received = 0
        self._taken = 0
        self._largest = 0
        self._is_asked = False
        self._failure: str | None = None
        self._cause: Exception | None = None
        self._pump: asyncio.Task[None] | None = None
        self.complete = False
        self.was_read = False
        """Whether the application has started to read a body that arrives in parts."""

    # The event loop's thread

    async def receive_one(self) -> bool:
        """Receive one message; return False if no message can follow.

        Raises ValueError for a message that does not belong to HTTP, or BodyTooLarge.
        """
        message: Mapping[str, Any] = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            if self.complete:
                return False  # a test's stub that repeats its message and never disconnects
            self._feed(message.get("body") or b"", bool(message.get("more_body")))
            return True
        if kind == "http.disconnect":
            self.fail("the client disconnected before the request body was complete")
            self._on_disconnect()
            return False
        raise ValueError(f"WSGI wrapper received a non-HTTP-request message: {kind!r}")

    def start(self) -> None:
        """Start the pump, which also notices when the client leaves. Do nothing after `close`."""
        if self._failure is None and self._pump is None:
            self._is_asked = True
            self._pump = start_task(self._run(), self._loop, "WSGI request body", self._context)

    def fail(self, reason: str) -> None:
        """Make any read that needs more data raise OSError. Callable from any thread."""
        self._failure = self._failure or reason
        self._wait.wake_threads()

    def close(self) -> asyncio.Task[None] | None:
        """Cancel the pump permanently; return it if the caller must wait for it to end."""
        if self.complete:
            self._failure = self._failure or _OVER  # no reader can be waiting
        else:
            self.fail(_OVER)
        if self._pump is None or self._pump.done():
            return None
        self._pump.cancel()
        return self._pump

    def take_all(self) -> bytes:
        """Take everything received so far. Call this before the application's thread starts."""
        self._taken = self._received
        chunks = list(self._chunks)
        self._chunks.clear()
        return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)

    @property
    def size(self) -> int:
        """How many bytes are in the buffer."""
        return self._received - self._taken

    @property
    def memory(self) -> int:
        """How many bytes of memory the buffer takes: small messages take more than their size."""
        return self.size + MESSAGE_OVERHEAD * len(self._chunks)

    async def _run(self) -> None:
        try:
            while await self.receive_one():
                self._wait.wake_threads()
                # Receive only while a message as large as the largest so far would fit.
                if self.memory + self._largest > READ_AHEAD:
                    while not (self.complete or self._has_room()):
                        await self._wait.wait_in_task()
        except BodyTooLarge as error:
            self._cause = error
            if self._on_too_large is not None:
                self._on_too_large()  # before the reader wakes and raises
            self.fail(str(error))
        except Exception as error:
            # A waiting reader gets this error. A failure of `receive` does not mean that the client
            # has left, so the response continues.
            self._cause = error
            self.fail(f"the request body could not be received: {safe_repr(error)}")

    def _feed(self, data: bytes, more: bool) -> None:
        if data:
            if self._maximum is not None and self._received + len(data) > self._maximum:
                raise BodyTooLarge(f"the request body exceeds {self._maximum} bytes")
            self._chunks.append(data)
            self._received += len(data)
            if len(data) > self._largest:
                self._largest = len(data)
        self.complete = not more

    # The application's thread

    def take(self, size: int) -> bytes | memoryview:
        """Take between 1 and `size` bytes, or none at the end of the body.

        Blocks until data arrives; raises ClientDisconnected if none can arrive.
        """
        self.was_read = True
        if not self._chunks and not self._wait_for_data():
            return b""
        chunk = self._chunks.popleft()
        if len(chunk) > size:
            chunk = memoryview(chunk)
            self._chunks.appendleft(chunk[size:])
            chunk = chunk[:size]
        self._taken += len(chunk)
        if not self.complete and self._has_room():
            self._wake_pump()
        return chunk

    @property
    def at_hand(self) -> bool:
        """Whether `take` would not block."""
        return bool(self._chunks)

    def watch_from_thread(self) -> None:
        """Start the pump, and wait until it has received all messages that the server has ready."""
        if self._is_asked or threading.get_ident() == self._thread:
            return
        has_looked = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._start_and_tell, has_looked)
        except RuntimeError:  # the event loop is closed
            self._on_disconnect()
            return
        while not has_looked.wait(CHECK_SECONDS) and not has_ended(self._loop):
            pass

    def _start_and_tell(self, has_looked: threading.Event) -> None:
        self.start()
        # The first turn starts the pump; the second lets a queue wake it.
        self._loop.call_soon(self._loop.call_soon, has_looked.set)

    def _has_room(self) -> bool:
        # With a smaller gap, the two threads would wake each other for every message.
        memory = self.memory
        return not memory or (memory <= READ_AHEAD // 4 and memory + self._largest <= READ_AHEAD)

    def _wait_for_data(self) -> bool:
        """Wait for data; return False at the end of the body."""
        if not self._is_settled():
            self._refuse_event_loop()
            self._wake_pump()
            if not self._wait.wait_in_thread(self._is_settled):
                self._failure = LOOP_ENDED
        if not self._chunks and not self.complete:
            if isinstance(self._cause, BodyTooLarge):
                raise BodyTooLarge(self._failure)
            raise ClientDisconnected(self._failure) from self._cause
        return bool(self._chunks)

    def _is_settled(self) -> bool:
        return bool(self._chunks) or self.complete or self._failure is not None

    def _wake_pump(self) -> None:
        try:
            if self._is_asked:
                self._wait.wake_task()
            else:
                self._is_asked = True
                self._loop.call_soon_threadsafe(self.start)
        except RuntimeError:  # the event loop is closed
            self._failure = LOOP_ENDED

    def _refuse_event_loop(self) -> None:
        # Compare threads, because greenlets that pose as threads share asyncio's record of the
        # running loop. gevent and eventlet give each greenlet its own thread identifier.
        if threading.get_ident() == self._thread:
            raise RuntimeError(
                "wsgi.input was read on the event loop's thread, which would wait for itself;"
                " read it in the WSGI application's thread"
            )


class RequestStream(io.RawIOBase):
    """The raw stream of a body. It ends after `length` bytes, if the length is known."""

    def __init__(self, source: RequestInput, length: int | None) -> None:
        super().__init__()
        self._source = source
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        length = len(view)
        piece = self._take(length)
        position = len(piece)
        view[:position] = piece
        # Join small messages, so that reading costs no more than receiving them.
        while (
            position < length and self._source.at_hand and (piece := self._take(length - position))
        ):
            view[position : position + len(piece)] = piece
            position += len(piece)
        return position

    def readall(self) -> bytes:
        pieces: list[bytes | memoryview] = []
        while piece := self._take(READ_AHEAD):
            pieces.append(piece)
        return b"".join(pieces)

    def _take(self, size: int) -> bytes | memoryview:
        if self._left is None:
            return self._source.take(size)
        if not self._left:
            return b""
        piece = self._source.take(min(size, self._left))
        if not piece:
            raise ClientDisconnected(
                f"the request body ended {self._left} bytes short of its Content-Length"
            )
        self._left -= len(piece)
        return piece


def open_stream(source: RequestInput, length: int | None) -> BinaryIO:
    """Return the ``wsgi.input`` for a body that has not arrived completely."""
    return cast("BinaryIO", io.BufferedReader(RequestStream(source, length), 65536))
