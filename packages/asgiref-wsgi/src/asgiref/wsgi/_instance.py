"""Serves one ASGI call to a WSGI application, from its scope to its end.

An HTTP request::

    the request's task                          the application's thread
    ------------------                          ------------------------
    receive the first message (_spool: all)
    start the application's task ------------>  build_environ (_environ)
                                                call the application
       receive --> _input ------------------->    it reads wsgi.input
       send    <-- _outbox <------------------    _response makes events
    wait for the application's task <---------  close() the returned iterable

The left side is in `_exchange`. This module contains the right side and the methods to override.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any, BinaryIO

from . import _environ
from ._answers import answer, refuse_websocket, serve_lifespan
from ._errors import BodyTooLarge, ClientDisconnected, log_abandoned, log_refused, safe_repr
from ._exchange import Exchange, Options
from ._file_wrapper import usable_offers
from ._outbox import ResponseQueue
from ._response import Response, ResponseState, Sink
from ._types import Event, ExcInfo, Receive, Scope, Send
from ._workers import shared_workers

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


class WsgiToAsgiInstance:
    """One ASGI call to a WSGI application. Each call gets its own instance.

    Subclasses may override `build_environ`, `start_response` and `run_wsgi_app`. To use a subclass,
    set `instance_class` in a subclass of WsgiToAsgi.

    Args:
        wsgi_application: the WSGI callable.
        duplicate_header_limit: as for `WsgiToAsgi`.
        options: the other options of the `WsgiToAsgi` that creates this instance. Pass them on
            unchanged.

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

    _exchange: Exchange | None = None  # until an HTTP request is served
    _own_send: Callable[[Event], None] | None = None  # `sync_send`, unless it is replaced

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
            ValueError: for a scope or a message that does not belong to HTTP.
            RuntimeError: the WSGI application raised a BaseException that is not an Exception.
            Exception: any exception that the WSGI application raises.
        """
        kind = scope["type"]
        if kind == "http":
            if hasattr(scope.get("headers"), "__next__"):  # an iterator: it can be read only once
                scope = {**scope, "headers": list(scope["headers"])}
            self.scope = scope
            self._exchange = exchange = Exchange(scope, receive, send, self._options)
            self.sync_send = self._own_send = exchange.outbox.send
            await exchange.serve(self.run_wsgi_app)
        elif kind == "lifespan":
            await serve_lifespan(receive, send, self._options.workers.free)
        elif kind == "websocket":
            await refuse_websocket(scope, receive, send)
        else:
            raise ValueError(f"WSGI wrapper received a non-HTTP scope: {kind!r}")

    # Methods to override

    def build_environ(self, scope: Scope, body: BinaryIO | None) -> dict[str, Any]:
        """Build the environ of the request. Called on the application's thread.

        Args:
            scope: the ASGI scope of the request.
            body: the stream for ``wsgi.input``.

        Returns:
            A new dict as PEP 3333 describes it, including ``asgi.scope``.

        Raises:
            ValueError: to answer the request with status 400.
        """
        exchange = self._exchange
        return _environ.build_environ(
            scope,
            body,
            self.duplicate_header_limit,
            self._options.allow_underscore_headers,
            self._options.workers.runs_in_parallel,
            exchange.body_length if exchange else None,
            exchange.client_connected if exchange else None,
        )

    def start_response(
        self,
        status: str,
        response_headers: Iterable[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        """Accept the status and headers, as in PEP 3333. Called on the application's thread.

        Args:
            status: code and reason, for example ``"200 OK"``.
            response_headers: pairs of name and value.
            exc_info: the error that this response reports, as `sys.exc_info` returns it. If it is
                given, the call replaces headers that were not sent yet; if they were sent, it
                raises the error.

        Returns:
            PEP 3333's ``write``, which takes a chunk of the body.

        Raises:
            ValueError: for a status line or a header that must not be sent.
            TypeError: for a status line or a header of the wrong type.
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
        on_queued = self._exchange.on_queued if self._exchange is not None else _ignore_queue
        await self._options.workers.run(self._run_guarded, body, on_queued)

    # The state of the response, for subclasses

    @property
    def response_started(self) -> bool:
        """Whether the headers were sent."""
        return self._response.state in (ResponseState.SENT, ResponseState.ENDED)

    @response_started.setter
    def response_started(self, started: bool) -> None:
        self._response.state = ResponseState.SENT if started else ResponseState.HELD

    @property
    def response_start(self) -> Event:
        """The event with status and headers; absent before start_response."""
        if self._response.start_event is None:
            raise AttributeError("response_start: start_response was not called yet")
        return self._response.start_event

    @property
    def response_content_length(self) -> int | None:
        """The Content-Length that the application promised."""
        return self._response.content_length

    # The application's thread

    def _run_guarded(self, body: BinaryIO) -> None:
        """Run the application, and convert exceptions that must not reach the server.

        A BaseException such as SystemExit or CancelledError, or a StopIteration, which has a
        special meaning in coroutines, would end the server's loop or look like a cancellation.
        """
        exchange = self._exchange
        try:
            if exchange is None or exchange.start():
                self._run(body)
        except (ClientDisconnected, BodyTooLarge):
            if exchange is None or not exchange.outbox.closed:
                raise  # the request's body was cut off, but the client may still read the response
        except StopIteration as error:
            raise RuntimeError(f"the WSGI application raised {safe_repr(error)}") from error
        except Exception as error:
            if exchange is None or not exchange.is_abandoned:
                raise
            log_abandoned(error)
        except BaseException as error:
            raise RuntimeError(f"the WSGI application raised {safe_repr(error)}") from error
        finally:
            if exchange is not None:
                exchange.close_body()

    def _run(self, body: BinaryIO) -> None:
        sink = self._sink()
        # Only the outbox knows when the server has sent a file.
        offers: Container[str] = ()
        if type(sink) is ResponseQueue and (extensions := self.scope.get("extensions")):
            offers = usable_offers(extensions, by_path=self._options.send_files_by_path)
        self._response.attach(sink, self.scope["method"] == "HEAD", offers)
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
                    sink.flush()  # the response is complete, and close() may be slow
                finally:
                    close()

    def _refuse(self, sink: Sink, error: ValueError) -> None:
        """Answer with status 400; show the client only the detail of a BadRequest."""
        text = "Bad Request"
        if isinstance(error, _environ.BadRequest):
            text += f": {error.detail}"
        else:
            log_refused(error)
        start, end = answer(self.scope, 400, text)
        sink.append(start, 0)
        sink.end(end, len(end["body"]))

    def _sink(self) -> Sink:
        """Return the outbox, or a sink around `sync_send` if a subclass sets it."""
        if self._exchange is not None and self.sync_send is self._own_send:
            return self._exchange.outbox
        return _CallbackSink(self.sync_send)


def _ignore_queue(delay: float) -> None:
    """Do nothing: a call that is not an HTTP request has no client."""


class _CallbackSink:
    """A sink that passes each event on immediately."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send

    def append(self, event: Event, size: int) -> None:
        self._send(event)

    def end(self, event: Event, size: int) -> None:
        self._send(event)

    def flush(self) -> None:
        pass

    def watch(self) -> None:
        pass

    def wait_for_room(self) -> None:
        pass

    def wait_until_sent(self) -> None:
        pass
