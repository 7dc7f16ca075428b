"""Work on the server's event loop: tasks, and calls from other threads.

All state in this package belongs to one event loop. Other threads (users' own threads, and worker
threads that run methods decorated with ``sync_to_async``) may still ask for instances and put
messages: these calls run on the loop while their thread waits. On the loop they never wait for
anything, so two threads cannot deadlock.
"""

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

_R = TypeVar("_R")

#: Seconds between a waiting thread's checks whether the loop was closed without running its call.
_CHECK_SECONDS = 0.5
#: The call fails after this many successive checks that find the loop stopped.
_MAX_CHECKS = 10


class LoopThread:
    """A server's event loop and the thread that runs it. Create it on that thread.

    Attributes:
        loop: the event loop.
        ident: the thread's identifier.
    """

    def __init__(self, server: str) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.ident: int = threading.get_ident()
        self._server = server
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._closed = False

    def call(self, function: Callable[..., _R], *args: object) -> _R:
        """Run ``function(*args)`` on the loop and return its result; blocks the calling thread.

        Raises:
            RuntimeError: if the server has ended.
        """
        outcome: Future[_R] = Future()
        context = contextvars.copy_context()
        with self._lock:
            if self._closed or self.loop.is_closed():
                raise self._ended(function.__name__)
            self._waiting.add(outcome)
            self.loop.call_soon_threadsafe(self._make, outcome, function, *args, context=context)
        stopped = 0
        while not wait([outcome], _CHECK_SECONDS).done:
            stopped = 0 if self.loop.is_running() else stopped + 1
            if self.loop.is_closed() or stopped == _MAX_CHECKS:
                self.close()
        try:
            return outcome.result()
        finally:
            del outcome  # otherwise the exception's traceback and this frame form a cycle

    def close(self) -> None:
        """Refuse new calls and the calls that are still waiting."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, set()
        for outcome in waiting:
            outcome.set_exception(self._ended("a call"))

    def _make(self, outcome: Future[_R], function: Callable[..., _R], *args: object) -> None:
        with self._lock:
            if outcome not in self._waiting:
                return
            self._waiting.discard(outcome)
        try:
            outcome.set_result(function(*args))
        except BaseException as error:
            outcome.set_exception(error)

    def _ended(self, what: str) -> RuntimeError:
        return RuntimeError(f"{self._server} has ended: {what} was called from another thread.")


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
    try:
        if loop.get_task_factory() is None:
            return loop.create_task(coroutine)
        task = loop.create_task(_later(coroutine))
    except BaseException:
        coroutine.close()
        raise
    task.add_done_callback(lambda _: coroutine.close())  # it may be cancelled before it starts
    return task


async def _later(coroutine: Coroutine[Any, Any, _R]) -> _R:
    await asyncio.sleep(0)
    return await coroutine


def cancel(task: "asyncio.Future[Any]") -> None:
    """Cancel a task, unless its loop is closed."""
    if not task.get_loop().is_closed():
        task.cancel()


def detach(task: "asyncio.Future[Any]") -> None:
    """Stop Python from waiting for a task that ignores its cancellation.

    ``asyncio.run`` waits without a limit for every task that it knows. Destroying the coroutine
    would raise GeneratorExit in it, which it may ignore as well, and keep running. So the task is
    unregistered from asyncio, and one reference to it is leaked on purpose.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
    if isinstance(task, asyncio.Task):
        asyncio.tasks._unregister_task(task)  # pyright: ignore
        task._log_destroy_pending = False  # type: ignore[attr-defined] # pyright: ignore
