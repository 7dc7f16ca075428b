"""Work on the server's event loop: tasks, and calls from other threads; and the logger.

All state in this package belongs to one event loop. Other threads (users' own threads, and worker
threads that run methods decorated with ``sync_to_async``) may still ask for instances and put
messages: these calls run on the loop while their thread waits. On the loop they never wait for
anything, so two threads cannot deadlock.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

_R = TypeVar("_R")

logger = logging.getLogger("asgiref.server")

#: Seconds between a waiting thread's checks whether the loop ended without running its call.
_CHECK_SECONDS = 1.0


class LoopThread:
    """A server's event loop and the thread that runs it. Create it on that thread.

    Attributes:
        loop: the event loop.
        ident: the thread's identifier.
        closed: whether the server has ended. Only the loop's thread sets it.
    """

    def __init__(self, server: str) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.ident: int = threading.get_ident()
        self.closed = False
        self._server = server

    def call(self, function: Callable[..., _R], *args: object) -> _R:
        """Run ``function(*args)`` on the loop and return its result; blocks the calling thread.

        Raises:
            RuntimeError: if the server has ended.
        """
        outcome: Future[_R] = Future()
        ended = self.closed or self.loop.is_closed()
        if not ended:
            self.loop.call_soon_threadsafe(self._make, outcome, function, *args)
        while not (ended or wait([outcome], _CHECK_SECONDS).done):
            ended = (self.closed or not self.loop.is_running()) and outcome.cancel()
        if ended:
            text = f"{self._server} has ended: {function.__name__} was called from another thread."
            raise RuntimeError(text)
        try:
            return outcome.result()
        finally:
            del outcome  # otherwise the exception's traceback and this frame form a cycle

    def _make(self, outcome: Future[_R], function: Callable[..., _R], *args: object) -> None:
        if not self.closed and outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(function(*args))
            except BaseException as error:
                outcome.set_exception(error)


def safe_repr(value: object) -> str:
    """``repr(value)``, or a description of an object whose ``repr`` raises."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} at {id(value):#x}, whose repr() raises>"


def is_loop_running() -> bool:
    """Whether an event loop is running on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def start_task(coroutine: Coroutine[Any, Any, _R]) -> "asyncio.Future[_R]":
    """Start a task whose first step runs later, even if the loop has an eager task factory.

    An eager task factory would run users' code in the middle of the caller's work. The factory is
    called with two arguments, because some factories accept no more.
    """
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        return loop.create_task(coroutine)
    task = loop.create_task(_later(coroutine))
    task.add_done_callback(lambda _: coroutine.close())  # it may be cancelled before it starts
    return task


async def _later(coroutine: Coroutine[Any, Any, _R]) -> _R:
    await asyncio.sleep(0)
    return await coroutine
