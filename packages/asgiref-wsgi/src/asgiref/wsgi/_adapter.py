"""Adapts a WSGI application to ASGI. `_instance` serves each call."""

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
    ValueError for others. The WSGI application runs on worker threads, one per request; ASGI's
    `receive` and `send` are awaited in the request's own task.

    Args:
        wsgi_application: the WSGI callable.
        duplicate_header_limit: how many times one request header may occur before the adapter
            answers with status 400; None or 0 for no limit.
        workers: the maximum number of threads that run the application at once; 40 by default.
            While a request waits for a slow client, another one may run, except with ``workers=1``:
            then one thread runs all requests, each from start to finish.
        executor: an executor that runs the requests instead of the adapter's thread pool.
        thread_sensitive: run requests one at a time, on the thread that ``sync_to_async`` uses by
            default. (Inside a ThreadSensitiveContext, requests always run on its thread.)
        backpressure: how many bytes of a response may wait for the client before the application
            has to wait. Each chunk counts as its length plus 400 bytes.
        allow_underscore_headers: keep request headers whose names contain an underscore. The
            application cannot tell them from headers with a hyphen, which it may trust a proxy to
            set.
        max_body_size: the maximum size of a request's body; a longer body gets status 413. None for
            no maximum.
        max_spool_size: the maximum size of a body without a length (chunked, or HTTP/2 without
            Content-Length). Before the application starts, the adapter receives such a body, in
            memory and then in a temporary file, and sets CONTENT_LENGTH; a longer body gets status
            413. With None, the application reads the body as it arrives, and frameworks that
            rely on CONTENT_LENGTH (Django, Falcon, Bottle) treat it as empty.
        send_files_by_path: send ``wsgi.file_wrapper`` files by path if the server offers
            ``http.response.pathsend``. Use this only if the application never deletes or replaces a
            file that it has sent, because the server may open the file later.

    Raises:
        TypeError: ``wsgi_application`` is not callable.
        ValueError: ``backpressure`` is below 1, or another number is negative. Calling the adapter
            raises it for a scope of any other type.

    If the call is cancelled, the application stops at its next chunk, write or read, and the
    adapter closes the iterable that it returned. A server that cancels requests as it shuts down
    may end the process before the adapter has closed the iterable: under uvicorn, the application's
    ``finally`` blocks do not run once the time limit has passed.

    >>> def hello(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"Hello!"]
    >>> application = WsgiToAsgi(hello, workers=8)
    """

    instance_class: ClassVar[type[WsgiToAsgiInstance]] = WsgiToAsgiInstance
    """The class of the object that serves each call. Subclasses may set it."""

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
            raise TypeError(f"a WSGI application must be callable, but {wsgi_application!r} is not")
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
            Exception: any exception that the WSGI application raises; see `WsgiToAsgiInstance`.
        """
        instance = self.instance_class(
            self.wsgi_application, self.duplicate_header_limit, options=self._options
        )
        await instance(scope, receive, send)
