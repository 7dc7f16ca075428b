"""The lifespan of an application in one process: startup, state, shutdown, all on its event loop.

The invariant: `start` always returns, whether the application answers, raises, returns, or sends a
wrong event.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .._errors import safe_repr
from .._types import Event

_logger = logging.getLogger("asgiref.wsgi")

Application = Callable[[Any, Any, Any], Awaitable[None]]


class LifespanMode(enum.Enum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


class StartupFailed(RuntimeError):
    """The application's startup failed, so it serves no requests."""


class LifespanCall:
    """Runs one application's lifespan scope. Create it on the loop's thread."""

    def __init__(self, application: Application, mode: LifespanMode) -> None:
        self._application = application
        self._mode = mode
        self.state: dict[str, Any] = {}
        self._started: asyncio.Future[StartupFailed | None] = _new_future()
        self._must_stop = asyncio.Event()
        self._stopped: asyncio.Future[None] = _new_future()
        self._received = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> StartupFailed | None:
        """Start the application; return the failure, or None."""
        if self._mode is LifespanMode.OFF:
            return None
        self._task = asyncio.create_task(self._run())
        return await self._started

    async def stop(self, seconds: float) -> None:
        """Let the application shut down within this many seconds."""
        if self._task is None or self._task.done():
            return
        self._must_stop.set()
        await asyncio.wait({self._stopped}, timeout=seconds)
        if not self._stopped.done():
            _logger.error("The application's lifespan shutdown took more than %g seconds", seconds)
        elif not self._task.done():
            # The application has answered; give it a moment to return.
            await asyncio.wait({self._task}, timeout=seconds)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=seconds)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        error: BaseException | None = None
        try:
            await self._application(scope, self._receive, self._send)
        except BaseException as caught:  # SystemExit would end the loop's thread
            error = caught
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if not self._started.done():
            self._end_without_startup(error)
        elif isinstance(error, asyncio.CancelledError | None) or self._started.result() is not None:
            pass  # it ended normally, or its startup logged the error
        else:
            _logger.error("The application's lifespan failed", exc_info=error)
        _resolve(self._stopped, None)

    def _end_without_startup(self, error: BaseException | None) -> None:
        if self._mode is LifespanMode.AUTO:
            _logger.info("The application does not support lifespan", exc_info=error)
            self._started.set_result(None)
            return
        reason = "returned" if error is None else f"raised {safe_repr(error)}"
        failure = StartupFailed(f"the application {reason} before lifespan.startup.complete")
        failure.__cause__ = error
        self._fail(failure)

    def _fail(self, failure: StartupFailed) -> None:
        _logger.error(
            "The application cannot serve requests: %s", failure, exc_info=failure.__cause__
        )
        self._started.set_result(failure)

    async def _receive(self) -> Event:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        if self._received == 2:
            await self._must_stop.wait()
            return {"type": "lifespan.shutdown"}
        no_further_event: asyncio.Future[Event] = _new_future()
        return await no_further_event

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        if kind == "lifespan.startup.complete" and not self._started.done():
            self._started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self._started.done():
            message = event.get("message") or "without a message"
            self._fail(StartupFailed(f"lifespan.startup.failed: {message}"))
        elif kind == "lifespan.shutdown.complete" and self._must_stop.is_set():
            _resolve(self._stopped, None)
        elif kind == "lifespan.shutdown.failed" and self._must_stop.is_set():
            _logger.error("lifespan.shutdown.failed: %s", event.get("message") or "no message")
            _resolve(self._stopped, None)
        else:
            raise RuntimeError(f"the application sent {kind!r} at the wrong point of its lifespan")


def _new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _resolve(future: asyncio.Future[None], result: None) -> None:
    if not future.done():
        future.set_result(result)
