"""The application's lifespan: tells the application when the server starts and stops.

    STARTING ─┬─ startup.complete ─> STARTED ── `ask_to_stop` ──> STOPPING ── an answer ─> STOPPED
              └─ startup.failed ───> FAILED

This is version 2.0 of the lifespan protocol: one instance of the application, with the scope
``{"type": "lifespan"}``, lives as long as the server. If the application raises for this scope, or
returns without an answer, it does not support the protocol, and the server runs it without a
lifespan. (The specification offers no other signal.) The application fills ``state`` at startup.
"""

import asyncio
import enum
from collections.abc import Mapping
from typing import Any

from asgiref.compatibility import SingleCallable

from ._loop import logger, safe_repr, start_task


class LifespanPhase(enum.Enum):
    STARTING = "starting"
    STARTED = "started"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


_ANSWERS = {
    (LifespanPhase.STARTING, "lifespan.startup.complete"): LifespanPhase.STARTED,
    (LifespanPhase.STARTING, "lifespan.startup.failed"): LifespanPhase.FAILED,
    (LifespanPhase.STOPPING, "lifespan.shutdown.complete"): LifespanPhase.STOPPED,
    (LifespanPhase.STOPPING, "lifespan.shutdown.failed"): LifespanPhase.STOPPED,
}


class ServerLifespan:
    """One run of the application for the lifespan of its server.

    Attributes:
        state: the application's state, which all of its scopes get.
        task: the application's task.
    """

    def __init__(self, application: SingleCallable) -> None:
        self.state: dict[str, Any] = {}
        self._phase = LifespanPhase.STARTING
        self._reason = ""
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self.task: asyncio.Future[None] = start_task(self._run, application)
        self.task.add_done_callback(lambda _: self._answered.set())

    async def startup(self) -> bool:
        """Wait for the application's startup; False if it does not support the protocol.

        Raises:
            RuntimeError: if the application said that its startup failed.
        """
        self._events.put_nowait({"type": "lifespan.startup"})
        await self._answered.wait()
        if self._phase is LifespanPhase.FAILED:
            raise RuntimeError(f"The application's startup failed: {self._reason or 'no reason'}")
        return self._phase is LifespanPhase.STARTED

    def ask_to_stop(self) -> None:
        """Tell the application that the server is shutting down."""
        if self._phase is LifespanPhase.STARTED:
            self._phase = LifespanPhase.STOPPING
            self._events.put_nowait({"type": "lifespan.shutdown"})

    def is_stopping(self) -> bool:
        """Whether the application has yet to answer the shutdown."""
        return self._phase is LifespanPhase.STOPPING and not self.task.done()

    # The application's side

    async def _run(self, application: SingleCallable) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        scope = {"type": "lifespan", "asgi": asgi, "state": self.state}
        try:
            await application(scope=scope, receive=self._events.get, send=self._send)
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self._phase is LifespanPhase.STARTING:
                logger.info("The application does not support the lifespan protocol: %r", error)
            # An application may send startup.failed and raise as well.
            elif self._phase is not LifespanPhase.FAILED:
                logger.error("Exception in the application's lifespan: %s", error, exc_info=error)

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind, reason = message["type"], message.get("message", "")
        phase = _ANSWERS.get((self._phase, kind))
        if phase is None:
            await asyncio.sleep(0)  # an application that retries at once must not block the others
            text = f"sent {safe_repr(kind)} while its lifespan was {self._phase.value}."
            raise RuntimeError(f"The application {text}")
        self._phase, self._reason = phase, reason
        if kind == "lifespan.shutdown.failed":
            logger.error("The application's shutdown failed: %s", reason)
        self._answered.set()
