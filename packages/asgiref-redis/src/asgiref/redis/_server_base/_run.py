"""What happens around the server's main coroutine, from its beginning to its end.

First the application's startup, if its lifespan is asked for, then `handle`. At the end, in the
opposite order and whatever happened: the instances, the lifespan, and the way that leads here from
other threads. Each step is made although an earlier one was cancelled.
"""

from typing import Any, Protocol

from asgiref.compatibility import guarantee_single_callable

from ._calls import call_main, is_async
from ._home import Home
from ._lifespan import Lifespan
from ._pool import Hooks, Pool


class Runnable(Hooks, Protocol):
    """What a run needs of the server."""

    lifespan: bool
    shutdown_timeout: float

    def handle(self) -> Any: ...


class Run:
    """One run of a server."""

    def __init__(self, server: Runnable, pool: Pool) -> None:
        self._server = server
        self._pool = pool
        self._lifespan: Lifespan | None = None
        pool.home = Home(type(server).__name__) if self._has_synchronous_methods() else None

    def _has_synchronous_methods(self) -> bool:
        server = self._server
        methods = (
            server.handle,
            server.application_send,
            server.application_exception,
            server.application_undelivered,
        )
        return not all(is_async(method) for method in methods)

    async def serve(self) -> None:
        """The startup, then `handle`."""
        if self._server.lifespan:
            self._lifespan = Lifespan(guarantee_single_callable(self._server.application))
            if await self._lifespan.started():
                self._pool.state = self._lifespan.state
        await call_main(self._server.handle)

    async def end(self, hurried: bool) -> None:
        """End everything that was begun; ``hurried``: without giving it time."""
        seconds = 0.0 if hurried else self._server.shutdown_timeout
        try:
            await self._pool.close(seconds)
        finally:
            await self._end_lifespan(seconds)

    async def _end_lifespan(self, seconds: float) -> None:
        try:
            if self._lifespan is not None:
                await self._lifespan.stop(seconds)
        finally:
            self._pool.state = None
            if self._pool.home is not None:
                self._pool.home.close()  # and left in place, to refuse threads that come later
