"""The way in: the request's body from ASGI messages to ``wsgi.input``.

Theory of operation. A body that came whole with the first message is a BytesIO and needs nothing of
what follows. Any other body crosses from the event loop to the application's thread like this::

    receive() --> pump (a task of the request) --> buffer --> RequestStream --> io.BufferedReader

* The pump starts with the application's first read (a server may not even ask the client for the
  body before), or when the response's headers are out, since then it is also the watch that
  notices that the client has left. There is one pump, so `receive` is never awaited twice at once.
* The buffer holds at most READ_AHEAD bytes (or one message, when a server sends larger ones). The
  pump receives only while the largest message seen so far would still fit. Once it had to stop it
  goes on when three quarters of that are read: asked after every read, the two threads would wake
  each other for every message.
* BufferedReader turns the raw stream into what `io` defines: read, readline, readlines, iteration.
  It is written in C, and linear for many small chunks and for long lines.
* The end of a body is either told by a message, or by Content-Length. Everything else that ends it
  (a disconnect, a message that is none, the end of the request) is an OSError for the reader,
  never a short body taken for whole.

Only the pump appends to the buffer and only the application's thread takes from it; both are
atomic, and each side counts its own bytes, so a message needs no lock. The lock guards the two ways
to sleep: the thread's (`_arrived`), and the pump's (`_pump`). Each side changes first what the
other one waits for, and looks then, under the lock, whether it sleeps.
`_task` and `_parking` belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import io
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from asgiref.sync import ThreadEvent

from ._outbox import PATIENCE, ClientDisconnected

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Receive: TypeAlias = Callable[[], Awaitable[Any]]

READ_AHEAD = 256 * 1024


class Pump(enum.Enum):
    IDLE = "nobody has asked for the body yet"
    ASKED = "the application's thread has asked, or the pump runs"
    PARKED = "the buffer is full; the thread asks when it has made room"


class RequestInput:
    """The body of one request between `receive` and the application's thread.

    `on_disconnect` is called on the event loop's thread when `receive` says that the client left.
    `waiting` gives the context in which the thread blocks (see `_workers`).
    """

    __slots__ = (
        "_arrived",
        "_cause",
        "_chunks",
        "_context",
        "_failure",
        "_largest",
        "_lock",
        "_loop",
        "_on_disconnect",
        "_parking",
        "_pump",
        "_receive",
        "_received",
        "_taken",
        "_task",
        "_waiting",
        "complete",
    )

    def __init__(
        self,
        receive: Receive,
        loop: asyncio.AbstractEventLoop,
        on_disconnect: Callable[[], None],
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._receive = receive
        self._loop = loop
        self._on_disconnect = on_disconnect
        self._waiting = waiting
        self._context = contextvars.copy_context()  # the pump runs in the request's, not the app's
        self._lock = threading.Lock()
        self._arrived: threading.Condition | None = None  # made by a thread that must wait
        self._chunks: deque[bytes | memoryview] = deque()
        self._received = 0
        self._taken = 0
        self._largest = 0
        self._pump = Pump.IDLE
        self._failure: str | None = None
        self._cause: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._parking: ThreadEvent | None = None
        self.complete = False

    # The event loop's thread

    async def receive_one(self) -> bool:
        """Receive one message; returns False when there is no sense in receiving another.

        Raises ValueError for a message that has no place in an HTTP request.
        """
        message: Mapping[str, Any] = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            if self.complete:
                return False  # a stub that repeats itself: it will not tell of a disconnect
            self._feed(message.get("body") or b"", bool(message.get("more_body")))
            return True
        if kind == "http.disconnect":
            self.fail("the client disconnected before the request body was complete")
            self._on_disconnect()
            return False
        raise ValueError(f"WSGI wrapper received a non-HTTP-request message: {kind!r}")

    def start(self) -> None:
        """Receive from now on, also to notice when the client leaves."""
        if self._failure is None and self._task is None:
            self._pump = Pump.ASKED
            self._task = self._loop.create_task(self._run(), context=self._context)

    def fail(self, reason: str) -> None:
        """Let every later read of what has not come be an OSError. Any thread may call it."""
        with self._lock:
            self._failure = self._failure or reason
            self._tell_reader()

    async def stop(self) -> None:
        """End the pump; afterwards `receive` is not awaited, and reading more is an OSError."""
        if not self.complete:
            self.fail("the request is over")
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def take_all(self) -> bytes:
        """Everything received so far; before the application's thread begins."""
        self._taken = self._received
        chunks = list(self._chunks)
        self._chunks.clear()
        return bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)

    @property
    def size(self) -> int:
        """How many bytes are in the buffer."""
        return self._received - self._taken

    async def _run(self) -> None:
        try:
            while await self.receive_one():
                if self.size + self._largest > READ_AHEAD:
                    await self._park()
        except Exception as error:
            # Told to the reader, if there is one. A broken `receive` does not say that the client
            # left, so the response goes on.
            self._cause = error
            self.fail(f"the request body could not be received: {error!r}")

    async def _park(self) -> None:
        """Wait until there is room for another message."""
        while not self.complete:
            if self._parking is None:
                self._parking = ThreadEvent()
            with self._lock:
                self._pump = Pump.PARKED
                if self._has_room():
                    self._pump = Pump.ASKED
                    return
            await self._parking.wait()

    def _feed(self, data: bytes, more: bool) -> None:
        if data:
            self._chunks.append(data)
            self._received += len(data)
            if len(data) > self._largest:
                self._largest = len(data)
        self.complete = not more
        if self._arrived is not None:
            with self._lock:
                self._tell_reader()

    def _tell_reader(self) -> None:
        if self._arrived is not None:
            self._arrived.notify_all()

    # The application's thread

    def take(self, size: int) -> bytes | memoryview:
        """Between 1 and `size` bytes, or none at the end of the body.

        Blocks until there are some; raises ClientDisconnected when there will be none.
        """
        if not self._chunks and not self._wait_for_data():
            return b""
        chunk = self._chunks.popleft()
        if len(chunk) > size:
            chunk = memoryview(chunk)
            self._chunks.appendleft(chunk[size:])
            chunk = chunk[:size]
        self._taken += len(chunk)
        if self._pump is Pump.PARKED and self._has_room():
            with self._lock:
                self._ask()
        return chunk

    @property
    def at_hand(self) -> bool:
        """Whether `take` would not block."""
        return bool(self._chunks)

    def _has_room(self) -> bool:
        size = self.size
        return not size or (size <= READ_AHEAD // 4 and size + self._largest <= READ_AHEAD)

    def _wait_for_data(self) -> bool:
        """Whether there is data now; False at the end of the body."""
        if not self.complete and self._failure is None:
            _refuse_event_loop()
            with self._lock:
                arrived = self._arrived = self._arrived or threading.Condition(self._lock)
                if not self._is_settled():
                    self._ask()
                if not arrived.wait_for(self._is_settled, PATIENCE):
                    with self._waiting():
                        arrived.wait_for(self._is_settled)
        if not self._chunks and not self.complete:
            raise ClientDisconnected(self._failure) from self._cause
        return bool(self._chunks)

    def _is_settled(self) -> bool:
        return bool(self._chunks) or self.complete or self._failure is not None

    def _ask(self) -> None:
        """Under the lock: have the pump receive, unless it does or was asked to."""
        if self._pump is Pump.ASKED:
            return
        self._pump = Pump.ASKED
        try:
            if self._parking is None:
                self._loop.call_soon_threadsafe(self.start)
            else:
                self._parking.set()
        except RuntimeError:  # the event loop is closed
            self._failure = "the event loop of the request is closed"


class RequestStream(io.RawIOBase):
    """The raw stream of a body; ends after `length` bytes, if that is known."""

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
        # Small messages are put together, so that reading costs no more than they do.
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


def open_body(source: RequestInput, length: int | None) -> BinaryIO:
    """The ``wsgi.input`` for a body of which the first message was received, or none."""
    if source.complete and (length is None or source.size >= length):
        return io.BytesIO(source.take_all()[:length])
    return cast("BinaryIO", io.BufferedReader(RequestStream(source, length), 65536))


def _refuse_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "wsgi.input was read on the event loop's thread, which would wait for itself;"
        " read it in the WSGI application's thread"
    )
