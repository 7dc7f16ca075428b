"""The application's lifespan: tells the application when the server starts and ends.

    STARTING ─┬─ startup.complete ─> STARTED ── `ask_to_stop` ──> STOPPING ─┬─> STOPPED
              ├─ startup.failed ───> FAILED                                 │
              └─ it ends ──────────> UNSUPPORTED            an answer, or it ends

This is version 2.0 of the lifespan protocol: one instance of the application, with the scope
``{"type": "lifespan"}``, lives as long as the server. If the application raises for this scope, or
returns without an answer, it does not support the protocol, and the server runs it without a
lifespan. (The specification offers no other signal.) The application fills ``state`` at startup.
"""

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.compatibility import SingleCallable

from ._hooks import safe_repr
from ._loop import start_task

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

    Args:
        application: the application.
        on_change: called when the application answers or ends.

    Attributes:
        state: the application's state, which all of its scopes get.
        task: the application's task.
    """

    def __init__(self, application: SingleCallable, on_change: Callable[[], object]) -> None:
        self.state: dict[str, Any] = {}
        self._phase = Phase.STARTING
        self._failure = ""
        self._on_change = on_change
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self.task: asyncio.Future[None] = start_task(self._run(application))
        self.task.add_done_callback(self._ended)

    async def startup(self) -> bool:
        """Wait for the application's startup; False if it does not support the protocol.

        Raises:
            RuntimeError: if the application said that its startup failed.
        """
        self._events.put_nowait({"type": "lifespan.startup"})
        await self._answered.wait()
        if self._phase is Phase.FAILED:
            raise RuntimeError(f"The application's startup failed: {self._failure or 'no reason'}")
        return self._phase is Phase.STARTED

    def ask_to_stop(self) -> None:
        """Tell the application that the server is shutting down."""
        if self._phase is Phase.STARTED and not self.task.done():
            self._phase = Phase.STOPPING
            self._events.put_nowait({"type": "lifespan.shutdown"})

    def is_stopping(self) -> bool:
        """Whether the application has not answered the shutdown yet."""
        return self._phase is Phase.STOPPING

    # The application's side

    async def _run(self, application: SingleCallable) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await application(scope=scope, receive=self._events.get, send=self._send)
        except (Exception, SystemExit) as error:
            self._failed(error)

    def _ended(self, task: "asyncio.Future[None]") -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._failed(failure)
        self._move({Phase.STARTING: Phase.UNSUPPORTED, Phase.STOPPING: Phase.STOPPED})

    def _failed(self, error: BaseException) -> None:
        if self._phase is Phase.STARTING:
            logger.info("The application does not support the lifespan protocol: %r", error)
        elif self._phase is not Phase.FAILED:  # it may send startup.failed and raise as well
            logger.error("Exception in the application's lifespan: %s", error, exc_info=error)

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind, reason = message["type"], message.get("message", "")
        match self._phase, kind:
            case Phase.STARTING, "lifespan.startup.complete":
                self._phase = Phase.STARTED
            case Phase.STARTING, "lifespan.startup.failed":
                self._phase, self._failure = Phase.FAILED, reason
            case Phase.STOPPING, "lifespan.shutdown.complete":
                self._phase = Phase.STOPPED
            case Phase.STOPPING, "lifespan.shutdown.failed":
                self._phase = Phase.STOPPED
                logger.error("The application's shutdown failed: %s", reason)
            case _:
                raise RuntimeError(
                    f"The application sent {safe_repr(kind)} while its lifespan was "
                    f"{self._phase.value}."
                )
        self._move({})

    def _move(self, moves: Mapping[Phase, Phase]) -> None:
        self._phase = moves.get(self._phase, self._phase)
        self._answered.set()
        self._on_change()
