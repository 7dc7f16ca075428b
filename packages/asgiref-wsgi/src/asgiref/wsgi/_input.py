"""The way in: the request's body from ASGI messages to ``wsgi.input``.

Theory of operation. A body that came whole with the first message is a BytesIO and needs nothing of
what follows. Any other body crosses from the event loop to the application's thread like this::

    receive() --> pump (a task of the request) --> buffer --> RequestStream --> io.BufferedReader

* The pump starts with the application's first read (a server may not even ask the client for the
  body before), or when the response's headers are out, since then it is also the watch that
  notices that the client has left. There is one pump, so `receive` is never awaited twice at once.
* The buffer holds at most READ_AHEAD bytes (or one message, when a server sends larger ones). The
  pump receives only while the largest message seen so far would still fit.
* BufferedReader turns the raw stream into what `io` defines: read, readline, readlines, iteration.
  It is written in C, and linear for many small chunks and for long lines.
* The end of a body is either told by a message, or by Content-Length. Everything else that ends it
  (a disconnect, a message that is none, the end of the request) is an OSError for the reader,
  never a short body taken for whole.

Invariant: the buffer's attributes are touched under `_changed` (but only the loop's thread writes
`complete`); `_task` and `_parking` belong to the event loop's thread.
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

from ._outbox import ClientDisconnected

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
        "_cause",
        "_changed",
        "_chunks",
        "_context",
        "_failure",
        "_largest",
        "_loop",
        "_on_disconnect",
        "_parking",
        "_pump",
        "_receive",
        "_task",
        "_waiting",
        "complete",
        "size",
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
        self._changed = threading.Condition(threading.Lock())
        self._chunks: deque[memoryview] = deque()
        self.size = 0
        self._largest = 0
        self._pump = Pump.IDLE
        self._failure: str | None = None
        self._cause: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._parking: asyncio.Future[None] | None = None
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

    def watch(self) -> None:
        """Receive from now on, to notice when the client leaves, even if nobody reads."""
        if self._task is None:
            self.start()

    def start(self) -> None:
        """Start the pump, or let it go on when it is parked."""
        with self._changed:
            if self._failure is not None:
                return
            self._pump = Pump.ASKED
        if self._task is None:
            self._task = self._loop.create_task(self._run(), context=self._context)
        elif self._parking is not None and not self._parking.done():
            self._parking.set_result(None)

    def fail(self, reason: str) -> None:
        """Let every later read of what has not come be an OSError. Any thread may call it."""
        with self._changed:
            self._failure = self._failure or reason
            self._changed.notify_all()

    async def stop(self) -> None:
        """End the pump; afterwards `receive` is not awaited, and reading more is an OSError."""
        self.fail("the request is over")
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def take_all(self) -> bytes:
        """Everything received so far."""
        with self._changed:
            return b"".join(self._pop(self.size))

    async def _run(self) -> None:
        try:
            while await self._room() and await self.receive_one():
                pass
        except Exception as error:
            # Told to the reader, if there is one. A broken `receive` does not say that the client
            # left, so the response goes on.
            self._cause = error
            self.fail(f"the request body could not be received: {error!r}")

    async def _room(self) -> bool:
        while True:
            with self._changed:
                if self.complete or not self.size or self.size + self._largest <= READ_AHEAD:
                    return True
                self._pump = Pump.PARKED
                self._parking = self._loop.create_future()
            await self._parking

    def _feed(self, data: bytes, more: bool) -> None:
        with self._changed:
            if data:
                self._chunks.append(memoryview(data))
                self.size += len(data)
                self._largest = max(self._largest, len(data))
            self.complete = not more
            self._changed.notify_all()

    # The application's thread

    def take(self, size: int) -> list[memoryview]:
        """Between 1 and `size` bytes, in pieces, or none at the end of the body.

        Blocks until there are some; raises ClientDisconnected when there will be none.
        """
        with self._changed:
            if not self._chunks and not self.complete and self._failure is None:
                self._wait_for_data()
            if not self._chunks:
                if self.complete:
                    return []
                raise ClientDisconnected(self._failure) from self._cause
            pieces = self._pop(size)
            has_room = not self.size or self.size + self._largest <= READ_AHEAD
            if self._pump is Pump.PARKED and has_room:
                self._ask()
        return pieces

    def _wait_for_data(self) -> None:
        """Called, and returns, under the lock."""
        _refuse_event_loop()
        if self._pump is not Pump.ASKED:
            self._ask()
        with self._waiting():
            while not self._chunks and not self.complete and self._failure is None:
                self._changed.wait()

    def _ask(self) -> None:
        self._pump = Pump.ASKED
        try:
            self._loop.call_soon_threadsafe(self.start)
        except RuntimeError:  # the event loop is closed
            self._failure = "the event loop of the request is closed"

    def _pop(self, size: int) -> list[memoryview]:
        pieces: list[memoryview] = []
        while size and self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            pieces.append(chunk)
            size -= len(chunk)
            self.size -= len(chunk)
        return pieces


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
        position = 0
        for piece in self._take(len(view)):
            view[position : position + len(piece)] = piece
            position += len(piece)
        return position

    def readall(self) -> bytes:
        pieces: list[memoryview] = []
        while more := self._take(READ_AHEAD):
            pieces += more
        return b"".join(pieces)

    def _take(self, size: int) -> list[memoryview]:
        if self._left is None:
            return self._source.take(size)
        pieces = self._source.take(min(size, self._left)) if self._left else []
        self._left -= sum(map(len, pieces))
        if not pieces and self._left:
            raise ClientDisconnected(
                f"the request body ended {self._left} bytes short of its Content-Length"
            )
        return pieces


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
