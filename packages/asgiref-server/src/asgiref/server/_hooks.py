"""Runs the server's hooks in the background.

Each call runs in its own task. It waits for the previous call for the same scope, so that a failure
is reported before the messages that the failed instance left. The wait ends after `_PATIENCE`
seconds, so that a hook that blocks does not silence its scope. An exception in one hook never
prevents the next call.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ._loop import is_loop_running, start_task

logger = logging.getLogger("asgiref.server")

#: Seconds that a hook waits for the previous hook of the same scope.
_PATIENCE = 5.0

#: The name and scope id of the hook that is running in this context.
_current: ContextVar[tuple[str, object]] = ContextVar("asgiref.server.hook", default=("", None))


def is_reporting() -> bool:
    """Whether ``application_undelivered`` is the caller: its messages are already reported."""
    return _current.get()[0] == "application_undelivered"


def is_failed(scope_id: object) -> bool:
    """Whether ``application_exception`` is the caller, for the failed instance of this scope."""
    return _current.get() == ("application_exception", scope_id)


def leave_hook() -> None:
    """Mark the current task as an application, even if a hook started it."""
    if _current.get()[0]:  # setting it costs 100 bytes per idle scope
        _current.set(("", None))


def safe_repr(value: object) -> str:
    """``repr(value)``, or a description of an object whose ``repr`` raises."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} at {id(value):#x}, whose repr() raises>"


class HookCalls:
    """One server's hook calls that have not finished.

    Attributes:
        tasks: the tasks of these calls.
        on_ended: called each time one of them finishes.
        on_fatal: called with an exception that should end the process, such as SystemExit.
    """

    def __init__(self) -> None:
        self._last: dict[object, asyncio.Future[None]] = {}
        self._begun: set[asyncio.Future[Any]] = set()
        self.tasks: set[asyncio.Future[None]] = set()
        self.on_ended: Callable[[], object] | None = None
        self.on_fatal: Callable[[BaseException], object] | None = None

    def call(
        self, key: object, scope_id: object, owner: str, name: str, hook: Callable[[], Any]
    ) -> None:
        """Schedule a call of ``hook``, after earlier calls with the same ``key``."""
        where = f"{owner}.{name}() for scope {safe_repr(scope_id)}"
        if not is_loop_running():
            logger.error("%s was not called, because no event loop runs here", where)
            return

        def ended(task: "asyncio.Future[None]") -> None:
            self.tasks.discard(task)
            if task not in self._begun:
                logger.error("%s was not called, because the event loop ended", where)
            self._begun.discard(task)
            if self._last.get(key) is task:
                del self._last[key]
            if self.on_ended is not None:
                self.on_ended()

        task = start_task(self._make(self._last.get(key), where, scope_id, name, hook))
        task.add_done_callback(ended)
        self._last[key] = task
        self.tasks.add(task)

    def cancel(self) -> None:
        """Cancel the calls that have started.

        The others still run: the user learns of the failure or the messages only from them.
        """
        for task in self._begun:
            task.cancel()

    def forget_other_loops(self, loop: asyncio.AbstractEventLoop) -> None:
        """Discard calls that can never finish because their event loop was closed."""
        self.tasks = {task for task in self.tasks if task.get_loop() is loop}
        self._begun &= self.tasks
        self._last = {key: task for key, task in self._last.items() if task in self.tasks}

    def check_fatal(self, error: BaseException) -> None:
        """End the server if ``error`` is an exception that should end the process."""
        if self.on_fatal is not None and not isinstance(error, Exception):
            self.on_fatal(error)

    async def _make(
        self,
        previous: "asyncio.Future[None] | None",
        where: str,
        scope_id: object,
        name: str,
        hook: Callable[[], Any],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._begun.add(task)
        if previous is not None and not previous.done():
            await self._wait_for(previous, where, task)
        del previous  # otherwise each call would keep all of its predecessors alive
        _current.set((name, scope_id))
        try:
            result = hook()
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            logger.warning("%s was cancelled", where)
        except Exception:
            logger.exception("%s failed", where)
        except BaseException as error:
            if task.get_loop().is_closed():
                raise  # a GeneratorExit from destroying this coroutine: no concern of a later run
            # An asyncio task would raise SystemExit in the code that runs the event loop.
            logger.critical("%s raised %s", where, safe_repr(error), exc_info=error)
            self.check_fatal(error)

    async def _wait_for(
        self, previous: "asyncio.Future[None]", where: str, task: "asyncio.Task[Any]"
    ) -> None:
        try:
            await asyncio.wait({previous}, timeout=_PATIENCE)
        except asyncio.CancelledError:
            # The server is shutting down. Still call the hook, but cancel it at its first await:
            # asyncio.run cancels each task only once, and would wait for a hook that blocks.
            task.cancel()
            return
        if not previous.done():
            logger.warning("%s does not wait any longer for the call before it", where)
