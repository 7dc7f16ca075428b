"""Adapts an ASGI application to WSGI."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from .call import ApplicationCall, Part
from .client import departure_check
from .lifespan import Application, LifespanMode, StartupFailed
from .loops import LoopClosed, LoopFactory
from .request_body import RequestBody
from .response import ServerSide, StartResponse, answer, answer_failure
from .running import Options, RunningApplication
from .scope import RefusedRequest, body_length, build_scope
from .threads import PerProcess, ThreadQueue, new_channel

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

#: The longest timeout, because a thread cannot wait for an infinite time. The sums of the timeouts
#: that a thread waits for must be valid, too.
_LONGEST = threading.TIMEOUT_MAX / 10

_STATUS_LINES = {400: "400 Bad Request", 411: "411 Length Required"}


class AsgiToWsgi:
    """A WSGI application (PEP 3333) that runs an ASGI application.

    All requests of a process run concurrently on one event loop in a separate thread. The loop
    starts at the first request, starts again in a forked child, and stops at exit. Adapters with
    the same `loop_factory` share it. The server's threads read the request and wait for the
    response.

    Args:
        application: the ASGI 3 application. It gets the scopes ``http`` and ``lifespan``, and the
            environ as ``scope["wsgi.environ"]``.
        lifespan: ``"on"`` runs the application's lifespan: startup before the first request of each
            process, shutdown at exit. If the startup fails, each request gets status 500.
            ``"auto"`` does the same, but also serves an application that raises or returns before
            it answers ``lifespan.startup``. ``"off"`` does not run it.
        loop_factory: creates the event loop, for example ``uvloop.new_event_loop``; by default,
            asyncio's. `asgiref.sync.set_loop_factory` has no effect here.
        backpressure: how many bytes of a response may wait for the server before `send` has to
            wait. Each chunk counts as its length plus 400 bytes.
        disconnect_timeout: how many seconds an application may run after ``http.disconnect`` before
            its task is cancelled. A request is disconnected if the server calls `close` before the
            end of the response, or if it is still running at exit. An application that has sent its
            whole response may continue, and is cancelled only at exit.
        shutdown_timeout: how many seconds the lifespan's shutdown may take.

    Raises:
        TypeError: ``application`` is not callable.
        ValueError: ``lifespan`` is not one of the three values, or a number is out of range.

    If the application raises before it sends the response's headers, the adapter logs the exception
    and answers with status 500, passing ``exc_info`` to `start_response`. A later exception is
    raised in the server, which closes the connection. A BaseException that is not an `Exception` is
    raised as a RuntimeError that names it.

    >>> async def hello(scope, receive, send):
    ...     headers = [(b"content-type", b"text/plain")]
    ...     await send({"type": "http.response.start", "status": 200, "headers": headers})
    ...     await send({"type": "http.response.body", "body": b"Hello!"})
    >>> application = AsgiToWsgi(hello, lifespan="off")
    """

    def __init__(
        self,
        application: Application,
        *,
        lifespan: Literal["auto", "on", "off"] = "auto",
        loop_factory: LoopFactory | None = None,
        backpressure: int = 262144,
        disconnect_timeout: float = 5.0,
        shutdown_timeout: float = 10.0,
    ) -> None:
        if not callable(application):
            raise TypeError(f"an ASGI application must be callable, but {application!r} is not")
        if lifespan not in ("auto", "on", "off"):
            raise ValueError(f"lifespan must be 'auto', 'on' or 'off', not {lifespan!r}")
        if backpressure < 1:
            raise ValueError(f"backpressure must be a positive number of bytes, not {backpressure}")
        for name, timeout in (
            ("disconnect_timeout", disconnect_timeout),
            ("shutdown_timeout", shutdown_timeout),
        ):
            if not timeout >= 0:
                raise ValueError(f"{name} must be a number of seconds, not {timeout}")
        self.application = application
        options = Options(
            LifespanMode(lifespan),
            loop_factory,
            backpressure,
            min(disconnect_timeout, _LONGEST),
            min(shutdown_timeout, _LONGEST),
        )
        self._running = PerProcess(lambda: RunningApplication(application, options))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request; the WSGI interface. Any of a server's threads may call it.

        Raises:
            Exception: any exception that ``wsgi.input`` raises, if no response has started.
        """
        running = self._running.get()
        if running.is_ended:
            running = self._running.replace(running)
        try:
            server_side = self._prepare(running, environ)
        except RefusedRequest as refused:
            return answer(start_response, _STATUS_LINES[refused.status], refused.sentence)
        except StartupFailed as failure:
            return answer_failure(start_response, failure, "The application has not started")
        except LoopClosed:
            return answer(start_response, "503 Service Unavailable", "The server is shutting down")
        return server_side.open(environ, start_response)

    def _prepare(self, running: RunningApplication, environ: dict[str, Any]) -> ServerSide:
        length = body_length(environ)
        scope = build_scope(environ)
        thread = running.start()
        state = running.state
        if state is not None:
            scope["state"] = state
        channel: ThreadQueue[Part] = new_channel()
        call = ApplicationCall(
            scope,
            thread.loop,
            channel,
            has_body=length != 0,
            limit=running.options.backpressure,
            on_discard=running.stop_later,
        )
        body = RequestBody(environ["wsgi.input"], length)
        return ServerSide(running, thread, call, channel, body, departure_check(environ))

    def close(self) -> None:
        """Shut down the application in this process: first its requests, then its lifespan.

        Call this in the server's worker-exit hook; otherwise, the shutdown happens at exit. The
        loop keeps running for other adapters. The next request starts the application again.

        The calling thread waits until the application has ended, or until both timeouts have
        expired.
        """
        running = self._running.pop()
        if running is not None:
            running.close()
