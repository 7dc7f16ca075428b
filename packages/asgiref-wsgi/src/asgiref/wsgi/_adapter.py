"""The adapter: a WSGI application as an ASGI application. What one call does is in `_instance`."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, ClassVar

from ._input import Receive
from ._instance import BACKPRESSURE, Options, Scope, WsgiToAsgiInstance
from ._other_scopes import Send
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
        workers: how many requests may run at once; 40 unless told. Requests that wait for a slow
            client do not count.
        executor: run requests in this executor of yours, in place of a pool.
        thread_sensitive: run one request after the other, on the thread that ``sync_to_async`` uses
            by default. (Inside a ThreadSensitiveContext, its thread is used in any case.)
        backpressure: how many bytes of a response may wait for the client before the application
            has to.
        allow_underscore_headers: let request headers with an underscore through. They look to the
            application like the header with a hyphen, which a proxy may have meant to vouch for.

    Raises:
        TypeError: ``wsgi_application`` is not callable.
        ValueError: ``backpressure`` is below 1; or, when called, the scope is of another type.

    A cancelled call stops the application at its next chunk, write or read, and closes what it
    returned.

    >>> def hello(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"Hello!"]
    >>> application = WsgiToAsgi(hello, workers=8)
    """

    instance_class: ClassVar[type[WsgiToAsgiInstance]] = WsgiToAsgiInstance
    """What serves each call; for subclasses to set."""

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
    ) -> None:
        if not callable(wsgi_application):
            raise TypeError(f"a WSGI application must be callable, {wsgi_application!r} is not")
        if backpressure < 1:
            raise ValueError(f"backpressure must be a positive number of bytes, not {backpressure}")
        self.wsgi_application = wsgi_application
        self.duplicate_header_limit = duplicate_header_limit
        self._options = Options(
            Workers(workers, executor, thread_sensitive), backpressure, allow_underscore_headers
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; the ASGI interface.

        Raises:
            Exception: what the WSGI application raises; see `WsgiToAsgiInstance`.
        """
        instance = self.instance_class(
            self.wsgi_application, self.duplicate_header_limit, options=self._options
        )
        await instance(scope, receive, send)
