"""One ASGI call of a WSGI application, from its scope to its end. The other modules are its parts.

Theory of operation of an HTTP request::

    the request's task                          the application's thread
    ------------------                          ------------------------
    receive the first message
    start the application's task ------------>  build_environ (_environ)
                                                call the application
       receive --> _input ------------------->    it reads wsgi.input
       send    <-- _outbox <------------------    _response makes events
    wait for the application's task <---------  close() of what it returned

The request's task is the only one that awaits `send`, and it (or the pump, its child) the only
one that awaits `receive`. The application's task only awaits the bridge, which runs the application
in a copy of the request's context; so what the application sets in context variables ends with it,
and neither the server's next request nor the next call sees it.

How a request ends:

* The application is through: what is left in the outbox is sent.
* The application raises: what it appended before is sent, then the call raises. An exception that
  is no Exception (SystemExit, GeneratorExit, CancelledError) or that has a meaning of its own in
  coroutines (StopIteration) would end the server's loop, or look like a cancellation, so it
  arrives as a RuntimeError that names it.
* The client leaves, or the call is cancelled: the outbox closes, so the thread finds out at its
  next chunk, write or read, stops, and closes what the application returned.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from . import _environ
from ._input import Receive, RequestInput, open_body
from ._other_scopes import Send, refuse_websocket, serve_lifespan
from ._outbox import ClientDisconnected, Outbox
from ._response import Event, ExcInfo, Response, Sink, State
from ._workers import Workers, shared_workers

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

Scope: TypeAlias = Mapping[str, Any]

BACKPRESSURE = 256 * 1024
#: So many chunks are sent in one turn of the event loop, where `send` does not wait. In the next
#: turn asyncio tells the server that a connection is lost, and until then it logs each write after
#: the fifth. (4 instead of 32 in a turn cost 4 % with chunks of 10 bytes, and nothing with 64 kB.)
SENDS_IN_A_ROW = 4

_logger = logging.getLogger("asgiref.wsgi")


@dataclass(frozen=True, slots=True)
class Options:
    """What a WsgiToAsgi tells its instances."""

    workers: Workers
    backpressure: int = BACKPRESSURE
    allow_underscore_headers: bool = False


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
        self._response = Response()
        self._outbox: Outbox | None = None
        self._abandoned = False

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
            multithread=not self._options.workers.thread_sensitive,
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
        await self._options.workers.run(self._run_guarded, body)

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
        loop = asyncio.get_running_loop()
        waiting = self._options.workers.waiting
        outbox = Outbox(self._options.backpressure, waiting)
        source = RequestInput(receive, loop, outbox.close, waiting)
        try:
            framing = _environ.read_framing(scope.get("headers") or ())
        except _environ.BadRequest:  # build_environ will say so, unless a subclass knows better
            framing = _environ.Framing(None, False)
        if not framing.expects_continue and not await source.receive_one():
            return  # the client left before its request was complete: there is nobody to answer
        self.scope = scope
        self._outbox = outbox
        self.sync_send = outbox.send
        body = open_body(source, framing.length)
        application = _start(self._run_application(body), loop, outbox.wake)
        try:
            await self._attend(application, source, outbox, send)
            application.result()
        finally:
            del application  # it holds the exception, whose traceback holds this frame

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
            if not application.cancelled() and (error := application.exception()):
                _report(error)
            raise
        finally:
            outbox.close()
            await source.stop()

    async def _relay(
        self, application: asyncio.Task[None], source: RequestInput, outbox: Outbox, send: Send
    ) -> None:
        started, sends = False, 0
        while True:
            finished = application.done()  # looked at first: then all it appended is in the outbox
            while (item := outbox.pop()) is not None:
                event, size = item
                try:
                    await send(event)
                except OSError:  # the client has left
                    outbox.close()
                    source.fail("the client has disconnected")
                    break
                started = True
                if size:
                    outbox.sent(size)
                    if not outbox.ended:  # a fast application may never let the outbox run dry
                        source.start()
                    sends += 1
                    if sends % SENDS_IN_A_ROW == 0:
                        await asyncio.sleep(0)  # nor `send` let anybody else run
            if finished:
                return
            if started and not outbox.ended:
                source.start()
            if not application.done():
                await outbox.sleep()

    # The application's thread

    def _run_guarded(self, body: BinaryIO) -> None:
        """Run the application, and let nothing out but an Exception that somebody will see."""
        try:
            self._run(body)
        except ClientDisconnected:
            if self._outbox is None or not self._outbox.closed:
                raise  # the request's body broke off, but the client may still read the answer
        except StopIteration as error:
            raise RuntimeError(f"the WSGI application raised {error!r}") from error
        except Exception as error:
            if not self._abandoned:
                raise
            _report(error)
        except BaseException as error:
            raise RuntimeError(f"the WSGI application raised {error!r}") from error

    def _run(self, body: BinaryIO) -> None:
        sink = self._sink()
        # Only the outbox can say when the server is through with a file.
        offers: Container[str] = self.scope.get("extensions") or ()
        offers = offers if sink is self._outbox else ()
        self._response.attach(sink, head=self.scope["method"] == "HEAD", offers=offers)
        try:
            environ = self.build_environ(self.scope, body)
        except ValueError as error:
            _refuse(sink, error)
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


def _refuse(sink: Sink, error: ValueError) -> None:
    """Answer with status 400, and tell the client only what was meant for it."""
    text = "Bad Request"
    if isinstance(error, _environ.BadRequest):
        text += f": {error.detail}"
    else:
        _logger.warning("build_environ raised a ValueError; answering 400", exc_info=error)
    headers = [(b"content-type", b"text/plain")]
    sink.append({"type": "http.response.start", "status": 400, "headers": headers}, 0)
    sink.append({"type": "http.response.body", "body": text.encode()}, 0)


def _report(error: BaseException) -> None:
    """Log what nobody will see otherwise, since the call was cancelled."""
    _logger.error("the WSGI application failed after its call was cancelled", exc_info=error)
