"""The application's lifespan: it is told when the server starts and ends.

    STARTING ─┬─ startup.complete ─> STARTED ── `stop` ──> STOPPING
              ├─ startup.failed ───> FAILED
              └─ it ends ──────────> UNSUPPORTED

This follows version 2.0 of the lifespan protocol: one instance of the application lives as long as
the server, with the scope ``{"type": "lifespan"}``. An application that raises at this scope, or
returns without an answer, does not support the protocol, and is served without; that is not an
error, as the specification has no other way to say so. The ``state`` of the lifespan's scope is
what the application fills during its startup.

An application that never answers keeps the startup waiting, as it would in other servers; ending
the server (a signal, a cancellation) ends the waiting. The shutdown has a limit.
"""

import asyncio
import enum
import logging
from collections.abc import Mapping
from typing import Any

from asgiref.compatibility import SingleCallable

logger = logging.getLogger("asgiref.server")


class Phase(enum.Enum):
    STARTING = "starting"
    STARTED = "started"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Lifespan:
    """One run of the application for the lifespan of its server.

    Attributes:
        state: what the application left there for all of its scopes.
    """

    def __init__(self, application: SingleCallable) -> None:
        self.state: dict[str, Any] = {}
        self._phase = Phase.STARTING
        self._failure = ""
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(application))

    async def started(self) -> bool:
        """Wait for the application's startup; False if it does not support the protocol.

        Raises:
            RuntimeError: if the application said that its startup failed.
        """
        self._events.put_nowait({"type": "lifespan.startup"})
        await self._answered.wait()
        if self._phase is Phase.FAILED:
            raise RuntimeError(f"The application's startup failed: {self._failure or 'no reason'}")
        return self._phase is Phase.STARTED

    async def stop(self, seconds: float) -> None:
        """Tell the application that the server ends, give it so many seconds, and end it."""
        try:
            if self._phase is Phase.STARTED and not self._task.done():
                self._phase = Phase.STOPPING
                self._answered.clear()
                self._events.put_nowait({"type": "lifespan.shutdown"})
                await self._wait_for_shutdown(seconds)
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _wait_for_shutdown(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._answered.wait()
        except TimeoutError:
            logger.warning("The application did not answer lifespan.shutdown in %g s", seconds)

    # The application's side

    async def _run(self, application: SingleCallable) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await application(scope=scope, receive=self._events.get, send=self._send)
        except Exception as error:
            self._failed(error)
        finally:
            if self._phase is Phase.STARTING:
                self._phase = Phase.UNSUPPORTED
            self._answered.set()

    def _failed(self, error: Exception) -> None:
        if self._phase is Phase.STARTING:
            logger.info("The application does not support the lifespan protocol: %r", error)
        elif self._phase is not Phase.FAILED:  # whoever says that it failed may raise as well
            logger.error("Exception in the application's lifespan: %s", error, exc_info=error)

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        match self._phase, kind:
            case Phase.STARTING, "lifespan.startup.complete":
                self._phase = Phase.STARTED
            case Phase.STARTING, "lifespan.startup.failed":
                self._phase = Phase.FAILED
                self._failure = message.get("message", "")
            case Phase.STOPPING, "lifespan.shutdown.complete":
                self._phase = Phase.STOPPED
            case Phase.STOPPING, "lifespan.shutdown.failed":
                self._phase = Phase.STOPPED
                logger.error("The application's shutdown failed: %s", message.get("message", ""))
            case _:
                raise RuntimeError(
                    f"The application sent {kind!r} while its lifespan was {self._phase.value}."
                )
        self._answered.set()
