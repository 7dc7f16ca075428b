"""Runs the server's hooks in the background.

The calls for one scope run one after the other, in one task, so that a failure is reported before
the messages that the failed instance left unread. The next instance of the scope waits for them, so
they cannot pile up. A call that takes longer than `_LIMIT_SECONDS` is cancelled, so that it does
not block its scope. An exception in one hook never prevents the next call.
"""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from ._loop import is_loop_running, logger, safe_repr, start_task
from ._queue import InputQueue

#: The maximum duration of a call, in seconds. The next instance waits twice as long.
_LIMIT_SECONDS = 10.0

#: The name and scope id of the hook that is running in this context. The id is removed when the
#: hook ends, because a task that the hook started may live longer.
_current: ContextVar[Sequence[object]] = ContextVar("asgiref.server.hook", default=("",))


def is_reporting() -> bool:
    """Whether ``application_undelivered`` is the caller: its messages are already reported."""
    return _current.get()[0] == "application_undelivered"


def is_failed(scope_id: object) -> bool:
    """Whether ``application_exception`` is the caller, for the failed instance of this scope."""
    return _current.get() == ["application_exception", scope_id]


def leave_hook() -> None:
    """Mark the current task as an application, even if a hook started it."""
    if _current.get()[0]:  # setting it costs 100 bytes per idle scope
        _current.set(("",))


class HookCalls:
    """One server's unfinished hook calls.

    Attributes:
        tasks: the tasks that make these calls, by the scope's queue.
        unstarted: those that must not be cancelled yet, because only their calls tell the user of
            the failure or the messages.
        on_fatal: called with an exception that should end the process, such as SystemExit.
    """

    def __init__(self) -> None:
        self._calls: dict[object, list[tuple[str, list[object], Callable[[], Any]]]] = {}
        self.unstarted: set[asyncio.Future[None]] = set()
        self.tasks: dict[object, asyncio.Future[None]] = {}
        self.on_fatal: Callable[[BaseException], object] = lambda _: None

    def call(self, instance: Any, owner: object, name: str, hook: Callable[[], Any]) -> None:
        """Schedule a call to a hook of ``owner`` about an `ApplicationInstance`."""
        queue, scope_id = instance.input_queue, instance.scope_id
        where = f"{type(owner).__name__}.{name}() for scope {safe_repr(scope_id)}"
        if not is_loop_running():
            logger.error("%s was not called, because no event loop is running here", where)
            return
        self._calls.setdefault(queue, []).append((where, [name, scope_id], hook))
        if queue not in self.tasks:
            task = self.tasks[queue] = start_task(self._make_all, queue)
            self.unstarted.add(task)
            # It may be cancelled before it starts.
            task.add_done_callback(partial(self.forget, queue))

    def forget(self, queue: object, task: "asyncio.Future[None]") -> None:
        """Discard the hook calls of a task that has ended, or can never end."""
        self.unstarted.discard(task)
        if self.tasks.get(queue) is task:
            calls = self._calls.pop(queue)
            while calls:  # the task of a stubborn hook must not make them later
                text = "%s was not called: an earlier call did not end, or its event loop ended"
                logger.error(text, calls.pop(0)[0])
            del self.tasks[queue]
            if isinstance(queue, InputQueue):
                queue.wake()  # the next instance waits for this

    async def _make_all(self, queue: object) -> None:
        task, calls = asyncio.current_task(), self._calls[queue]
        assert task is not None
        self.unstarted.discard(task)
        while calls:
            where, current, hook = calls.pop(0)
            _current.set(current)
            # Once cancelled (asyncio.run cancels each task only once), cancel the other calls too,
            # at their first await.
            await self._make(where, hook, 0 if task.cancelling() else _LIMIT_SECONDS)
            del hook, current[1]  # the hook refers to the exception
        # Forget it now, not in the done callback: another call may be queued first.
        self.forget(queue, task)

    async def _make(self, where: str, hook: Callable[[], Any], seconds: float) -> None:
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(seconds)
        try:
            async with limit:
                result = hook()
                if inspect.isawaitable(result):
                    await result
        except asyncio.CancelledError:
            logger.warning("%s was cancelled", where)
        except Exception:
            text = "%s took too long, and was cancelled" if limit.expired() else "%s failed"
            logger.exception(text, where)
        except BaseException as error:
            if loop.is_closed():
                raise  # a GeneratorExit from destroying this coroutine: it must not end a later run
            # An asyncio task would raise SystemExit in the code that runs the event loop.
            logger.critical("%s raised %s", where, safe_repr(error), exc_info=error)
            self.on_fatal(error)
