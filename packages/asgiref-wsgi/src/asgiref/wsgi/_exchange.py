"""Serves one HTTP request in its own task: receives the body, runs the application, sends events.

Only the request's task awaits `send`, and only that task or its child awaits `receive`. The call
ends when the application has ended and its events are sent. When the client leaves or the call is
cancelled, the outbox closes, and the application's thread stops at its next chunk, write or read.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from . import _environ
from ._answers import answer
from ._errors import BodyTooLarge, Notices, log_abandoned
from ._input import RequestInput, open_stream
from ._outbox import ResponseQueue
from ._spool import spool
from ._tasks import next_turn, start_task, wait_for_end
from ._types import Receive, Scope, Send
from ._workers import Workers

#: Room for six chunks of 64 KiB: a switch between the two threads costs as much as several chunks.
BACKPRESSURE = 384 * 1024
MAX_SPOOL_SIZE = 1024**3
#: Maximum number of events sent in one turn of the event loop if `send` does not wait. asyncio
#: tells the server about a lost connection in the next turn, and until then logs each write after
#: the fourth. A turn costs as much as sending one or two small chunks.
SENDS_IN_A_ROW = 4


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a WsgiToAsgi that its instances need."""

    workers: Workers
    backpressure: int = BACKPRESSURE
    allow_underscore_headers: bool = False
    max_body_size: int | None = None
    max_spool_size: int | None = MAX_SPOOL_SIZE
    send_files_by_path: bool = False
    notices: Notices = field(default_factory=Notices)


class Exchange:
    """One HTTP request and its response. Some methods run on the application's thread.

    It does not refer to the instance that creates it, because that would be a reference cycle.
    """

    __slots__ = (
        "_expects_continue",
        "_has_sent",
        "_is_queued",
        "_is_started",
        "_is_streamed_without_length",
        "_is_too_large",
        "_loop",
        "_options",
        "_queue_timer",
        "_scope",
        "_send",
        "_source",
        "_spooled",
        "body_length",
        "is_abandoned",
        "outbox",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, options: Options) -> None:
        self._scope = scope
        self._send = send
        self._options = options
        self._loop = asyncio.get_running_loop()
        lend = options.workers.lend
        self.outbox = ResponseQueue(options.backpressure, lend)
        self._source: RequestInput | None = RequestInput(
            receive,
            self._loop,
            self._on_disconnect,
            lend,
            options.max_body_size,
            self._on_too_large,
        )
        self._spooled: BinaryIO | None = None
        self._is_streamed_without_length = False
        self._is_queued = False
        self._is_started = False
        self._expects_continue = False
        self._queue_timer: asyncio.TimerHandle | None = None
        self._has_sent = False
        self._is_too_large = False  # once true, stays so until the client has been told
        self.body_length: int | None = None
        """The length of the body, once all of it has arrived."""
        self.is_abandoned = False
        """Whether the call was cancelled, so that errors can only be logged."""

    # The request's task

    async def serve(self, run: Callable[[BinaryIO], Coroutine[Any, Any, None]]) -> None:
        """Receive the request, run the application through `run`, and send its events.

        Raises any exception from `run`, `receive` or `send`.
        """
        source, outbox = self._source, self.outbox
        assert source is not None
        try:
            body = await self._receive_body(source)
        except BodyTooLarge:
            body = None
            await self._answer_too_large()
        if body is None:  # the client left before its request was complete
            self._source = None  # it refers to this object: break the cycle
            return
        application: asyncio.Task[None] | None = None
        try:
            application = start_task(
                self._run_application(run, body),
                self._loop,
                "WSGI application",
                on_cancelled=outbox.wake,
            )
            await self._attend(application, source)
            if not application.cancelled():  # cancelled: the client left before a thread was free
                application.result()
                if self._is_streamed_without_length and not source.was_read:
                    self._warn_of_unread_body()
        finally:
            del application  # its exception's traceback refers to this frame
            self._source = None  # it refers to this object: break the cycle
            if self._queue_timer is not None:
                self._queue_timer.cancel()
            if not self._is_started:
                self.close_body()

    async def _receive_body(self, source: RequestInput) -> BinaryIO | None:
        """Receive the data that the application needs to start; return its input stream.

        Return None if the client leaves first.
        """
        try:
            framing = _environ.read_framing(self._scope.get("headers") or ())
        except _environ.BadRequest:  # build_environ will report it
            framing = _environ.Framing()
        self._expects_continue = framing.expects_continue
        maximum, length = self._options.max_body_size, framing.length
        max_spool_size = self._options.max_spool_size
        if maximum is not None and length is not None and length > maximum:
            raise BodyTooLarge(f"Content-Length is {length}, but the maximum is {maximum}")
        if framing.expects_continue and (
            max_spool_size is None or not _environ.may_lack_length(self._scope, framing)
        ):
            pass  # the application may refuse the request before the client sends the body
        elif not await source.receive_one():
            return None
        is_too_large = max_spool_size is not None and source.size > max_spool_size
        if (is_too_large or not source.complete) and _environ.may_lack_length(self._scope, framing):
            if max_spool_size is not None:
                return await self._spool(source, max_spool_size)
            self._is_streamed_without_length = True
        if not source.complete or (length is not None and source.size < length):
            return open_stream(source, length)
        data = source.take_all()[:length]
        self.body_length = len(data)
        return io.BytesIO(data)

    async def _spool(self, source: RequestInput, maximum: int) -> BinaryIO | None:
        spooled = await spool(source, maximum)
        if spooled is None:
            return None
        self._spooled, self.body_length = spooled
        return self._spooled

    async def _run_application(
        self, run: Callable[[BinaryIO], Coroutine[Any, Any, None]], body: BinaryIO
    ) -> None:
        """Run the application, and wake the request's task at the end.

        A done-callback would do the same, but one turn of the loop later.
        """
        try:
            await run(body)
        finally:
            self.outbox.wake()

    async def _attend(self, application: asyncio.Task[None], source: RequestInput) -> None:
        """Relay events until the application ends; stop it if the request is cancelled."""
        outbox = self.outbox
        try:
            await self._relay(application, source, outbox)
        except BaseException:  # the call was cancelled, or `send` raised
            self.is_abandoned = True
            outbox.close()
            source.fail("the request was cancelled")
            application.cancel()
            await asyncio.wait([application])
            if not application.cancelled() and (error := application.exception()) is not None:
                log_abandoned(error)
            raise
        finally:
            outbox.close()
            if (pump := source.close()) is not None:
                await wait_for_end(pump)

    async def _relay(
        self, application: asyncio.Task[None], source: RequestInput, outbox: ResponseQueue
    ) -> None:
        in_a_row = 0  # sends since other tasks last ran
        while True:
            if not application.done() and await outbox.sleep():
                in_a_row = 0
            # Read this before sending: if the application has ended, the batch is the last one.
            finished = application.done()
            in_a_row = await self._send_batch(source, outbox, in_a_row)
            if outbox.closed and await self._is_over(application):
                return
            if finished:
                return
            if outbox.make_room():
                # Chunks that the thread appends during this turn need no wake-up.
                await next_turn()
                in_a_row = 0
            if outbox.is_watched and not outbox.ended:
                source.start()

    async def _send_batch(self, source: RequestInput, outbox: ResponseQueue, in_a_row: int) -> int:
        """Send the queued events; return the number of sends since other tasks last ran."""
        send = self._send
        for event in outbox.take():
            if in_a_row == SENDS_IN_A_ROW:
                await next_turn()  # `send` did not let other tasks run
                in_a_row = 0
            is_first, self._has_sent = not self._has_sent, True
            try:
                await send(event)
            except OSError:  # the client has left
                outbox.close()
                source.fail("the client has disconnected")
                break
            in_a_row += 1
            if is_first and not outbox.ended:
                source.start()  # notices if the client leaves while the next `send` waits for it
        return in_a_row

    async def _is_over(self, application: asyncio.Task[None]) -> bool:
        """Handle a closed outbox: send status 413 if the body is too large.

        Return True if the request never got a thread.
        """
        if self._is_too_large:
            self._is_too_large = False
            await self._answer_too_large()
        if not self._is_queued:
            return False
        application.cancel()  # the client left before a thread was free
        await asyncio.wait([application])
        return True

    async def _answer_too_large(self) -> None:
        self._has_sent = True
        for event in answer(self._scope, 413, "Content Too Large"):
            await self._send(event)

    def _on_disconnect(self) -> None:
        self.outbox.close()
        if self._is_queued:
            self.outbox.wake()

    def _on_too_large(self) -> None:
        if not self._has_sent:
            self._is_too_large = True
            self.outbox.close()
            self.outbox.wake()

    def on_queued(self, delay: float) -> None:
        """Detect whether the client leaves while its request waits for a thread."""
        if self._source is None:
            return
        self._is_queued = True
        if delay:
            self._queue_timer = self._loop.call_later(delay, self._watch_queue)
        else:
            self._watch_queue()

    def _watch_queue(self) -> None:
        # Calling `receive` would ask a client that expects "100 Continue" for the body.
        if self._is_queued and self._source is not None and not self._expects_continue:
            self._source.start()

    def _warn_of_unread_body(self) -> None:
        self._options.notices.warn(
            "unread body",
            "%s %s has a body without Content-Length, and the application read none of it."
            " Django, Falcon and Bottle ignore such bodies: set max_spool_size, so that"
            " WsgiToAsgi receives them first and sets CONTENT_LENGTH.",
            self._scope["method"],
            self._scope["path"],
        )

    # The application's thread

    def start(self) -> bool:
        """Return whether to run the request: False if no client can get its response any more."""
        self._is_queued = False
        # Before looking at the outbox, which `serve` closes before it looks at this flag: if it
        # misses the flag and closes the body, this request does not run.
        self._is_started = True
        return self.outbox.is_open()

    def close_body(self) -> None:
        """Close the file of a spooled body: on the application's thread, once one has started.

        The application may still read when its call has been cancelled.
        """
        if self._spooled is not None:
            self._spooled.close()

    def client_connected(self) -> bool:
        """Whether the client is still there, as far as the server knows."""
        if (source := self._source) is not None:
            source.watch_from_thread()
        return self.outbox.is_open()
