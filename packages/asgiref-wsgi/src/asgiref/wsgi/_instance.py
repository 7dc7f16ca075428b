"""One ASGI call of a WSGI application, from its scope to its end. The other modules are its parts.

An HTTP request::

    the request's task                          the application's thread
    ------------------                          ------------------------
    receive the first message (_spool: all)
    start the application's task ------------>  build_environ (_environ)
                                                call the application
       receive --> _input ------------------->    it reads wsgi.input
       send    <-- _outbox <------------------    _response makes events
    wait for the application's task <---------  close() of what it returned

The request's task is the only one that awaits `send`, and it or its child the only one that awaits
`receive`. The call ends when the application has ended and its events are sent. When the client
leaves or the call is cancelled, the outbox closes, and the thread stops at its next chunk, write or
read.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Container, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from . import _environ
from ._answers import answer, refuse_websocket, serve_lifespan
from ._errors import (
    BodyTooLarge,
    ClientDisconnected,
    Notices,
    describe,
    log_abandoned,
    log_refused,
)
from ._file_wrapper import usable_offers
from ._input import RequestInput, open_stream
from ._outbox import Outbox
from ._response import Response, Sink, State
from ._spool import spool
from ._types import Event, ExcInfo, Receive, Scope, Send
from ._workers import Workers, shared_workers

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

BACKPRESSURE = 256 * 1024
MAX_SPOOL_SIZE = 1024**3
#: So many events are sent in one turn of the event loop, where `send` does not wait. In the next
#: turn asyncio tells the server that a connection is lost, and until then it logs each write after
#: the fifth. A turn costs as much as sending one or two small chunks.
SENDS_IN_A_ROW = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What a WsgiToAsgi tells its instances."""

    workers: Workers
    backpressure: int = BACKPRESSURE
    allow_underscore_headers: bool = False
    max_body_size: int | None = None
    max_spool_size: int | None = MAX_SPOOL_SIZE
    send_files_by_path: bool = False
    notices: Notices = field(default_factory=Notices)


class WsgiToAsgiInstance:
    """One ASGI call of a WSGI application; a new one is made for each.

    Meant for subclasses, which may override `build_environ`, `start_response` and `run_wsgi_app`.
    To have a WsgiToAsgi use a subclass, set its `instance_class`.

    Args:
        wsgi_application: the WSGI callable.
        duplicate_header_limit: as for `WsgiToAsgi`.
        options: the other options of the `WsgiToAsgi` that makes it; passed on as it is.


    >>> from asgiref.wsgi import WsgiToAsgi
    >>> class Instance(WsgiToAsgiInstance):
    ...     def build_environ(self, scope, body):
    ...         return super().build_environ(scope, body) | {"myproject.answer": 42}
    >>> class Adapter(WsgiToAsgi):
    ...     instance_class = Instance
    """

    scope: Scope
    sync_send: Callable[[Event], None]
    """Sends an ASGI event from the application's thread."""

    # Of the request, until they are set; most requests leave most of them.
    _outbox: Outbox | None = None
    _source: RequestInput | None = None
    _spooled: BinaryIO | None = None
    _body_length: int | None = None  # once the body has arrived as a whole
    _is_streamed_without_length = False
    _is_queued = False
    _queue_timer: asyncio.TimerHandle | None = None
    _has_sent = False
    _is_too_large = False  # and the client is still to be told so
    _abandoned = False

    def __init__(
        self,
        wsgi_application: WSGIApplication,
        duplicate_header_limit: int | None = 100,
        *,
        options: Options | None = None,
    ) -> None:
        self.wsgi_application = wsgi_application
        self.duplicate_header_limit = duplicate_header_limit
        self._options = options or Options(shared_workers())
        self._response = Response(self._options.notices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; the ASGI interface.

        Raises:
            ValueError: for a scope or a message that is not HTTP's.
            RuntimeError: in place of what the WSGI application raises, if that is no Exception.
            Exception: what the WSGI application raises.
        """
        kind = scope["type"]
        if kind == "http":
            await self._serve_http(scope, receive, send)
        elif kind == "lifespan":
            await serve_lifespan(receive, send, self._options.workers.free)
        elif kind == "websocket":
            await refuse_websocket(scope, receive, send)
        else:
            raise ValueError(f"WSGI wrapper received a non-HTTP scope: {kind!r}")

    # To override

    def build_environ(self, scope: Scope, body: BinaryIO | None) -> dict[str, Any]:
        """Make the environ of the request; runs on the application's thread.

        Args:
            scope: the ASGI scope of the request.
            body: what becomes ``wsgi.input``.

        Returns:
            A new dict, as PEP 3333 describes it, with ``asgi.scope`` in it.

        Raises:
            ValueError: the request is answered with status 400.
        """
        return _environ.build_environ(
            scope,
            body,
            duplicate_header_limit=self.duplicate_header_limit,
            allow_underscores=self._options.allow_underscore_headers,
            multithread=self._options.workers.runs_in_parallel,
            body_length=self._body_length,
            client_connected=self._client_connected,
        )

    def start_response(
        self,
        status: str,
        response_headers: Iterable[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        """Take status and headers, as PEP 3333 defines it; runs on the application's thread.

        Args:
            status: code and reason, for example ``"200 OK"``.
            response_headers: pairs of name and value.
            exc_info: the error that this response is for, as `sys.exc_info` gives it. It replaces
                headers that are not on their way yet, and is raised if they are.

        Returns:
            PEP 3333's ``write``, which takes a piece of the body.

        Raises:
            ValueError: for a status line or a header that must not be sent.
            TypeError: for one of a wrong type.
        """
        try:
            return self._response.start(status, response_headers, exc_info)
        finally:
            exc_info = None  # its traceback may hold this frame

    async def run_wsgi_app(self, body: BinaryIO) -> None:
        """Run the application on a worker thread, from `build_environ` to ``close()``.

        Args:
            body: the request's body, passed on to `build_environ`.
        """
        await self._options.workers.run(self._run_guarded, body, self._on_queued)

    # The state of the response, for subclasses

    @property
    def response_started(self) -> bool:
        """Whether the headers are on their way."""
        return self._response.state in (State.SENT, State.ENDED)

    @response_started.setter
    def response_started(self, started: bool) -> None:
        self._response.state = State.SENT if started else State.HELD

    @property
    def response_start(self) -> Event:
        """The event that holds status and headers; there is none before start_response."""
        if self._response.start_event is None:
            raise AttributeError("response_start: start_response was not called yet")
        return self._response.start_event

    @property
    def response_content_length(self) -> int | None:
        """The length that the application has promised."""
        return self._response.content_length

    # The request's task

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, options = asyncio.get_running_loop(), self._options
        try:
            framing = _environ.read_framing(scope.get("headers") or ())
        except _environ.BadRequest:  # build_environ will say so, unless a subclass knows better
            framing = _environ.Framing(None, False)
        lend, maximum = options.workers.lend, options.max_body_size
        self.scope = scope
        self._outbox = outbox = Outbox(options.backpressure, lend)
        self._source = source = RequestInput(
            receive, loop, self._on_disconnect, lend, maximum, self._on_too_large
        )
        self._expects_continue = framing.expects_continue
        self.sync_send = outbox.send
        try:
            body = await self._receive_body(source, framing)
        except BodyTooLarge:
            await self._answer_too_large(send)
            return
        if body is None:
            return  # the client left before its request was complete
        application = _start(self._run_application(body), loop, outbox.wake)
        try:
            await self._attend(application, source, outbox, send)
            if not application.cancelled():  # as a request is whose client left the queue
                application.result()
                if self._is_streamed_without_length and not source.was_read:
                    self._warn_of_unread_body()
        finally:
            del application  # it holds the exception, whose traceback holds this frame
            self._source = None  # which refers to this instance
            if self._queue_timer is not None:
                self._queue_timer.cancel()
            if self._spooled is not None:
                self._spooled.close()

    async def _receive_body(
        self, source: RequestInput, framing: _environ.Framing
    ) -> BinaryIO | None:
        """Receive as much as must precede the application; None if the client left meanwhile."""
        maximum, length = self._options.max_body_size, framing.length
        max_spool_size = self._options.max_spool_size
        if maximum is not None and length is not None and length > maximum:
            raise BodyTooLarge(f"Content-Length is {length}, and the maximum {maximum}")
        if framing.expects_continue and (
            max_spool_size is None or not _environ.may_lack_length(self.scope, framing)
        ):
            pass  # the application may refuse the request before the client sends the body
        elif not await source.receive_one():
            return None
        if not source.complete and _environ.may_lack_length(self.scope, framing):
            if max_spool_size is not None:
                return await self._spool(source, max_spool_size)
            self._is_streamed_without_length = True
        if not source.complete or (length is not None and source.size < length):
            return open_stream(source, length)
        data = source.take_all()[:length]
        self._body_length = len(data)
        return io.BytesIO(data)

    async def _spool(self, source: RequestInput, maximum: int) -> BinaryIO | None:
        spooled = await spool(source, maximum)
        if spooled is None:
            return None
        self._spooled, self._body_length = spooled
        return self._spooled

    async def _run_application(self, body: BinaryIO) -> None:
        """Run the application, and wake the request's task at the end.

        A done-callback would do that, too, one turn of the loop later.
        """
        try:
            await self.run_wsgi_app(body)
        finally:
            assert self._outbox is not None
            self._outbox.wake()

    async def _attend(
        self, application: asyncio.Task[None], source: RequestInput, outbox: Outbox, send: Send
    ) -> None:
        """Relay until the application is through; see that it stops when the request must."""
        try:
            await self._relay(application, source, outbox, send)
        except BaseException:  # the call is cancelled, or `send` is broken
            self._abandoned = True
            outbox.close()
            source.fail("the request was cancelled")
            application.cancel()
            await asyncio.wait([application])
            if not application.cancelled() and (error := application.exception()) is not None:
                log_abandoned(error)
            raise
        finally:
            outbox.close()
            if not source.is_through:
                await source.stop()

    async def _relay(
        self, application: asyncio.Task[None], source: RequestInput, outbox: Outbox, send: Send
    ) -> None:
        sends = 0
        while True:
            # Looked at first: then all that the application appended is in the outbox.
            finished = application.done()
            while (item := outbox.pop()) is not None:
                event, cost = item
                self._has_sent = True
                try:
                    await send(event)
                except OSError:  # the client has left
                    outbox.close()
                    source.fail("the client has disconnected")
                    break
                if cost:
                    outbox.sent(cost)
                sends += 1
                if sends == 1 and not outbox.ended:
                    source.start()  # a fast application may never let the outbox run dry
                if sends % SENDS_IN_A_ROW == 0:
                    await asyncio.sleep(0)  # `send` did not let other tasks run
            if outbox.closed and await self._is_over(application, send):
                return
            if finished:
                return
            if (sends or outbox.is_watched) and not outbox.ended:
                source.start()
            if not application.done():
                await outbox.sleep()

    async def _is_over(self, application: asyncio.Task[None], send: Send) -> bool:
        """Whether a request that was closed will never run; tells the client of a large body."""
        if self._is_too_large:
            self._is_too_large = False
            await self._answer_too_large(send)
        if not self._is_queued:
            return False
        application.cancel()  # the client left before a thread was free
        await asyncio.wait([application])
        return True

    async def _answer_too_large(self, send: Send) -> None:
        self._has_sent = True
        for event in answer(self.scope, 413, "Content Too Large"):
            await send(event)

    def _on_disconnect(self) -> None:
        assert self._outbox is not None
        self._outbox.close()
        if self._is_queued:
            self._outbox.wake()

    def _on_too_large(self) -> None:
        assert self._outbox is not None
        if not self._has_sent:
            self._is_too_large = True
            self._outbox.close()
            self._outbox.wake()

    def _on_queued(self, delay: float) -> None:
        """Watch for a client that leaves while its request waits for a thread."""
        if self._source is None:
            return
        self._is_queued = True
        if delay:
            loop = asyncio.get_running_loop()
            self._queue_timer = loop.call_later(delay, self._watch_queue)
        else:
            self._watch_queue()

    def _watch_queue(self) -> None:
        # Receiving would ask a client that expects "100 Continue" for the body.
        if self._is_queued and self._source is not None and not self._expects_continue:
            self._source.start()

    def _warn_of_unread_body(self) -> None:
        self._options.notices.warn(
            "unread body",
            "%s %s has a body without Content-Length, and the application read none of it."
            " Django, Falcon and Bottle ignore such bodies: set max_spool_size, so that"
            " WsgiToAsgi receives them first and gives their length.",
            self.scope["method"],
            self.scope["path"],
        )

    # The application's thread

    def _run_guarded(self, body: BinaryIO) -> None:
        """Run the application, and raise nothing but an Exception that reaches the server.

        Any other exception (SystemExit, CancelledError), and one with a meaning of its own in
        coroutines (StopIteration), would end the server's loop or look like a cancellation.
        """
        self._is_queued = False
        if self._outbox is not None and self._outbox.closed:
            return  # the client left, or the call was cancelled
        try:
            self._run(body)
        except (ClientDisconnected, BodyTooLarge):
            if self._outbox is None or not self._outbox.closed:
                raise  # the request's body broke off, but the client may still read the answer
        except StopIteration as error:
            raise RuntimeError(f"the WSGI application raised {describe(error)}") from error
        except Exception as error:
            if not self._abandoned:
                raise
            log_abandoned(error)
        except BaseException as error:
            raise RuntimeError(f"the WSGI application raised {describe(error)}") from error

    def _run(self, body: BinaryIO) -> None:
        sink = self._sink()
        # Only the outbox can say when the server is through with a file.
        offers: Container[str] = ()
        if sink is self._outbox and (extensions := self.scope.get("extensions")):
            offers = usable_offers(extensions, by_path=self._options.send_files_by_path)
        self._response.attach(sink, head=self.scope["method"] == "HEAD", offers=offers)
        try:
            environ = self.build_environ(self.scope, body)
        except ValueError as error:
            self._refuse(sink, error)
            return
        iterable = self.wsgi_application(environ, self.start_response)
        try:
            self._response.relay(iterable)
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                try:
                    sink.flush()  # close() may take its time, and the response is complete
                finally:
                    close()

    def _refuse(self, sink: Sink, error: ValueError) -> None:
        """Answer with status 400, and tell the client only what was meant for it."""
        text = "Bad Request"
        if isinstance(error, _environ.BadRequest):
            text += f": {error.detail}"
        else:
            log_refused(error)
        for event in answer(self.scope, 400, text):
            sink.append(event, len(event.get("body", b"")))

    def _client_connected(self) -> bool:
        """Whether the client is still there, for all that the server knows."""
        if self._source is not None:
            self._source.watch_from_thread()
        return self._outbox is None or not self._outbox.closed

    def _sink(self) -> Sink:
        """The outbox; or, for a subclass that sets `sync_send`, whatever that reaches."""
        if self._outbox is not None and self.sync_send == self._outbox.send:
            return self._outbox
        return _CallbackSink(self.sync_send)


class _CallbackSink:
    """A sink that hands each event on at once."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send

    def append(self, event: Event, size: int) -> None:
        self._send(event)

    def flush(self) -> None:
        pass

    def watch(self) -> None:
        pass

    def wait_for_room(self) -> None:
        pass

    def wait_until_sent(self) -> None:
        pass


def _start(
    coroutine: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop,
    cancelled: Callable[[], None],
) -> asyncio.Task[None]:
    """Start a task, at once where that is possible: it saves a turn of the loop.

    `cancelled` is called if it is cancelled before it could begin.
    """
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    task = loop.create_task(coroutine)
    task.add_done_callback(lambda _: cancelled())
    return task
