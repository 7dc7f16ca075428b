"""One request on the event loop: the application's task, and its `receive` and `send`.

All code except `Outgoing.take` runs on the loop's thread. The parts of the response, and requests
for chunks of the request's body, pass to the server's thread through one channel, in order.

The states and their transitions::

    NEW --http.response.start--> STARTED --first chunk--> STREAMING ---last chunk--> COMPLETE
                                 STARTED --last chunk, or a file-------------------> COMPLETE
                                 STARTED --a chunk that is not sent--> DISCARDING -> COMPLETE

In any state, the call is abandoned when the server drops the response or the client leaves.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from .._errors import ClientDisconnected, safe_repr
from .._types import Event
from .head import Head, exact_bytes, parse_head
from .lifespan import Application
from .threads import ThreadQueue, new_lock

_logger = logging.getLogger("asgiref.wsgi")

#: Bytes added to the size of each waiting chunk, to limit the number of small chunks too.
CHUNK_OVERHEAD = 400


class AnswerState(enum.Enum):
    NEW = "the response has not started"
    STARTED = "the headers wait for the first chunk"
    STREAMING = "the headers are on their way"
    DISCARDING = "the rest of the body is discarded"  # after HEAD, or with 204 or 304
    COMPLETE = "the response is complete"


class Signal(enum.Enum):
    """A part without data: a request to the server's thread."""

    READ = "read a chunk of the request's body"
    END = "end the response"


@dataclass(slots=True)
class Opening:
    """The head of a response, with the first chunk or the path of a file."""

    head: Head
    chunk: bytes
    is_last: bool
    path: str | None = None


@dataclass(slots=True)
class Failure:
    """The application ended before its response was complete."""

    error: BaseException


Part = Opening | bytes | Signal | Failure


class Outgoing:
    """Counts the bytes that wait for the server's thread; `send` waits while there are too many."""

    __slots__ = ("_channel", "_limit", "_lock", "_loop", "_room", "_size", "_unpaused")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, channel: ThreadQueue[Part], limit: int
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._limit = limit
        self._lock = new_lock()
        self._size = 0
        self._room: asyncio.Event | None = None
        self._unpaused = 0

    def put(self, part: Part, size: int) -> None:
        """Queue a part that holds `size` bytes."""
        with self._lock:
            self._size += size + CHUNK_OVERHEAD
        self._channel.put(part)

    async def wait_for_room(self, size: int) -> None:
        """Wait while too much is queued for the server; regularly let other tasks run."""
        self._unpaused += size + CHUNK_OVERHEAD
        with self._lock:
            is_full = self._size > self._limit
            if is_full and self._room is None:
                self._room = asyncio.Event()
            room = self._room
        if is_full and room is not None:
            self._unpaused = 0
            await room.wait()
        elif self._unpaused > self._limit:
            self._unpaused = 0
            await asyncio.sleep(0)

    def release(self) -> None:
        """Wake all tasks that wait for room."""
        with self._lock:
            room, self._room = self._room, None
        if room is not None:
            room.set()

    def take(self, size: int) -> None:
        """Subtract a part that was removed from the channel. Called on the server's thread."""
        with self._lock:
            self._size -= size + CHUNK_OVERHEAD
            must_wake = self._room is not None and self._size <= self._limit // 2
        if must_wake:
            with suppress(RuntimeError):  # the loop is closed, so no task is waiting
                self._loop.call_soon_threadsafe(self.release)


class ApplicationCall:
    """One call to the application: `run` is its task."""

    __slots__ = (
        "_body",
        "_body_is_read",
        "_changed",
        "_channel",
        "_head",
        "_is_reading",
        "_left",
        "_on_discard",
        "_state",
        "is_abandoned",
        "outgoing",
        "scope",
    )

    def __init__(
        self,
        scope: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        channel: ThreadQueue[Part],
        *,
        has_body: bool,
        limit: int,
        on_discard: Callable[[ApplicationCall], None],
    ) -> None:
        self.scope = scope
        self.outgoing = Outgoing(loop, channel, limit)
        self.is_abandoned = False
        self._channel = channel
        self._state = AnswerState.NEW
        self._head: Head | None = None
        self._left: int | None = None  # bytes still missing from the Content-Length
        # Chunks of the request's body that `receive` has not returned yet, with "more_body".
        self._body: deque[tuple[bytes, bool]] = deque(() if has_body else ((b"", False),))
        self._body_is_read = False
        self._is_reading = False
        self._changed: asyncio.Event | None = None
        self._on_discard = on_discard

    async def run(self, application: Application) -> None:
        """Run the application, and tell the server's thread if it ends too early."""
        error: BaseException | None = None
        try:
            _hide_thread_of_caller()
            async with ThreadSensitiveContext():
                await application(self.scope, self.receive, self.send)
        except BaseException as caught:  # SystemExit would end the loop's thread
            error = caught
        try:
            self._end(error)
        finally:
            del error  # its traceback refers to this frame

    def _end(self, error: BaseException | None) -> None:
        if self._is_over:
            if error is not None and not self._is_expected(error):
                _logger.error("The application failed after its response", exc_info=error)
            return
        if error is None:
            error = RuntimeError(f"the ASGI application returned, but {self._state.value}")
        self._channel.put(Failure(error))

    def _is_expected(self, error: BaseException) -> bool:
        """Whether the application failed because its client left or the process is exiting."""
        if isinstance(error, asyncio.CancelledError):
            return True
        if not self.is_abandoned:
            return False
        cause: BaseException | None = error
        for _ in range(10):  # frameworks chain their own errors to this package's
            if cause is None or isinstance(cause, OSError):
                break
            cause = cause.__cause__ or cause.__context__
        return isinstance(cause, OSError)

    # The request's body

    async def receive(self) -> Event:
        """The application's `receive`."""
        while not self._is_over:
            if self._body:
                chunk, more = self._body.popleft()
                self._body_is_read = not more
                return {"type": "http.request", "body": chunk, "more_body": more}
            if not self._body_is_read and not self._is_reading:
                self._is_reading = True
                self._channel.put(Signal.READ)
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()
        return {"type": "http.disconnect"}

    def add_body(self, chunk: bytes, more: bool) -> None:
        """Accept a chunk that the server's thread has read."""
        self._is_reading = False
        self._body.append((chunk, more))
        self._wake_receivers()

    @property
    def _is_over(self) -> bool:
        return self.is_abandoned or self._state in (AnswerState.DISCARDING, AnswerState.COMPLETE)

    @property
    def is_complete(self) -> bool:
        """Whether the application has sent its whole response."""
        return self._state is AnswerState.COMPLETE

    def _wake_receivers(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    def abandon(self) -> None:
        """Tell the application and the server's thread, if it is waiting, that the client left."""
        if self._is_over:
            return
        self.is_abandoned = True
        self._channel.put(Failure(ClientDisconnected("the response was abandoned")))
        self._wake_receivers()
        self.outgoing.release()

    # The response

    async def send(self, event: Event) -> None:
        """The application's `send`."""
        kind = event["type"]
        if self.is_abandoned:
            raise ClientDisconnected("the client has left")
        if kind == "http.response.body":
            await self._send_body(event)
        elif kind == "http.response.start":
            self._require(kind, AnswerState.NEW)
            self._head = parse_head(event, self.scope["method"])
            self._left = self._head.content_length if self._head.has_body else None
            self._state = AnswerState.STARTED
        elif kind == "http.response.pathsend":
            self._require(kind, AnswerState.STARTED)
            self._send_path(str(event["path"]))
        elif kind not in _IGNORED_EVENTS:
            raise ValueError(f"AsgiToWsgi cannot send the event {kind!r}")

    def _require(self, kind: str, *states: AnswerState) -> None:
        if self._state not in states:
            raise RuntimeError(f"the application sent {kind!r}, but {self._state.value}")

    async def _send_body(self, event: Event) -> None:
        self._require(
            event["type"], AnswerState.STARTED, AnswerState.STREAMING, AnswerState.DISCARDING
        )
        more = bool(event.get("more_body", False))
        chunk = self._checked(event.get("body", b""), more)
        if self._head is not None and not self._head.has_body:
            self._discard_body(self._head)
        elif self._head is not None:
            if more and not chunk:
                return  # in PEP 3333, headers wait for the first chunk
            self._open(Opening(self._head, chunk, not more))
        elif self._state is AnswerState.STREAMING:
            self._put_chunk(chunk, more)
        if not more:
            self._complete()
            return
        await self.outgoing.wait_for_room(len(chunk))
        if self.is_abandoned:
            raise ClientDisconnected("the client has left")

    def _open(self, opening: Opening) -> None:
        self._head = None
        self._state = AnswerState.STREAMING
        self.outgoing.put(opening, len(opening.chunk))

    def _discard_body(self, head: Head) -> None:
        """Respond without a body. An endless body must not keep the application running."""
        self._open(Opening(head, b"", True))
        self._state = AnswerState.DISCARDING
        self._wake_receivers()
        # Not now: this may be the task's first step, which runs before the task is registered.
        asyncio.get_running_loop().call_soon(self._on_discard, self)

    def _put_chunk(self, chunk: bytes, more: bool) -> None:
        if chunk:
            self.outgoing.put(chunk, len(chunk))
        if not more:
            self._channel.put(Signal.END)

    def _checked(self, body: object, more: bool) -> bytes:
        """Return the bytes to send, after checking them against Content-Length."""
        chunk = body if type(body) is bytes else exact_bytes(body, "the body of a response")
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise RuntimeError("the response is longer than its Content-Length")
            if self._left and not more:
                raise RuntimeError("the response is shorter than its Content-Length")
        return chunk

    def _send_path(self, path: str) -> None:
        assert self._head is not None  # in state STARTED
        self._open(Opening(self._head, b"", True, path if self._head.has_body else None))
        self._complete()

    def _complete(self) -> None:
        self._state = AnswerState.COMPLETE
        self._wake_receivers()


def _hide_thread_of_caller() -> None:
    """Give the context that is entered next its own thread.

    The server's thread may itself belong to a context, for example that of a Django view under
    ASGI. It waits for the application, so it cannot run the application's synchronous code.
    """
    if SyncToAsync.thread_sensitive_context.get(None) is not None:
        SyncToAsync.thread_sensitive_context.set(ThreadSensitiveContext())


# WSGI has neither informational responses nor trailers.
_IGNORED_EVENTS = frozenset(
    {"http.response.trailers", "http.response.early_hint", "http.response.debug"}
)


def as_exception(error: BaseException) -> Exception:
    """Return the error in a form that the server survives: SystemExit would end its worker."""
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"the ASGI application raised {safe_repr(error)}")
    wrapped.__cause__ = error
    return wrapped
