"""uvicorn as a piece: the real server, on its own thread and loop.

uvicorn handles signals only on the main thread. Here it runs elsewhere, so ``main`` handles Ctrl-C.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn

from .trace import Trace
from .web import Web

GRACE_SECONDS = 3


class UvicornPiece:
    """Serves ``web`` on a socket that is already bound."""

    name = "uvicorn"

    def __init__(self, web: Web, listener: socket.socket, trace: Trace) -> None:
        self._listener = listener
        self._trace = trace
        config = uvicorn.Config(
            web,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
        self._server = _AnnouncingServer(config)

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Serve until ``stop``; call ``ready`` once it accepts connections."""
        self._server.ready = ready
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def stop(self) -> None:
        """End the event streams, which would never end, then uvicorn; safe from any thread."""
        self._trace.close()
        self._server.should_exit = True


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Keep the traceback of a cancelled request out of the log.

    uvicorn cancels requests that outlast the grace period and logs one line about that. Then it
    also reports each of them as an error of the application, although it is none.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _AnnouncingServer(uvicorn.Server):
    """A server that announces its start."""

    ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()
