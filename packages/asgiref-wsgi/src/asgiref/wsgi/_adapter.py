"""The adapter: a WSGI application as an ASGI application. `_instance` serves each call."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, ClassVar

from ._exchange import BACKPRESSURE, MAX_SPOOL_SIZE, Options
from ._instance import WsgiToAsgiInstance
from ._types import Receive, Scope, Send
from ._workers import Workers

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


class WsgiToAsgi:
    """An ASGI application that runs a WSGI application (PEP 3333).

    It serves the scope types ``http`` and ``lifespan``, refuses ``websocket``, and raises
    ValueError for others. The WSGI application runs on worker threads, one a request; ASGI's
    `receive` and `send` are awaited in the request's own task.

    Args:
        wsgi_application: the WSGI callable.
        duplicate_header_limit: how often one request header may come before the request is answered
            with status 400; None or 0 for any number.
        workers: how many threads run the application at once, and never more; 40 unless told. A
            request that waits for a slow client lets another run meanwhile, except with
            ``workers=1``: then one thread runs all requests, each from beginning to end.
        executor: run requests in this executor of yours, in place of a pool.
        thread_sensitive: run one request after the other, on the thread that ``sync_to_async`` uses
            by default. (Inside a ThreadSensitiveContext, its thread is used in any case.)
        backpressure: how many bytes of a response may wait for the client before the application
            has to. Each chunk counts 400 bytes more than it has.
        allow_underscore_headers: let request headers with an underscore through. They look to the
            application like the header with a hyphen, which a proxy may have meant to vouch for.
        max_body_size: the maximum size of a request's body; a request with a longer one is answered
            with status 413. None for no maximum.
        max_spool_size: the maximum size of a body that comes without a length (chunked, or by
            HTTP/2 without Content-Length). The adapter receives such a body, in memory and then in
            a temporary file, before the application starts, and sets CONTENT_LENGTH; a longer one
            is answered with status 413. With None the application reads it while it arrives, and
            those that go by CONTENT_LENGTH (Django, Falcon, Bottle) take it for empty.
        send_files_by_path: have a server that offers ``http.response.pathsend`` send the files of
            ``wsgi.file_wrapper`` by their path. Only for an application that neither deletes nor
            replaces a file that it has sent: the server may open it later.

    Raises:
        TypeError: ``wsgi_application`` is not callable.
        ValueError: ``backpressure`` is below 1, or another number is negative; or, when called, the
            scope is of another type.

    A cancelled call stops the application at its next chunk, write or read, and closes what it
    returned.

    >>> def hello(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"Hello!"]
    >>> application = WsgiToAsgi(hello, workers=8)
    """

    instance_class: ClassVar[type[WsgiToAsgiInstance]] = WsgiToAsgiInstance
    """The class that serves each call. Subclasses may set it."""

    def __init__(
        self,
        wsgi_application: WSGIApplication,
        duplicate_header_limit: int | None = 100,
        *,
        workers: int | None = None,
        executor: Executor | None = None,
        thread_sensitive: bool = False,
        backpressure: int = BACKPRESSURE,
        allow_underscore_headers: bool = False,
        max_body_size: int | None = None,
        max_spool_size: int | None = MAX_SPOOL_SIZE,
        send_files_by_path: bool = False,
    ) -> None:
        if not callable(wsgi_application):
            raise TypeError(f"a WSGI application must be callable, {wsgi_application!r} is not")
        if backpressure < 1:
            raise ValueError(f"backpressure must be a positive number of bytes, not {backpressure}")
        for name, maximum in (("max_body_size", max_body_size), ("max_spool_size", max_spool_size)):
            if maximum is not None and maximum < 0:
                raise ValueError(f"{name} must be a number of bytes or None, not {maximum}")
        self.wsgi_application = wsgi_application
        self.duplicate_header_limit = duplicate_header_limit
        self._options = Options(
            Workers(workers, executor, thread_sensitive),
            backpressure,
            allow_underscore_headers,
            max_body_size,
            max_spool_size,
            send_files_by_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; the ASGI interface.

        Raises:
            Exception: any exception of the WSGI application; see `WsgiToAsgiInstance`.
        """
        instance = self.instance_class(
            self.wsgi_application, self.duplicate_header_limit, options=self._options
        )
        await instance(scope, receive, send)
