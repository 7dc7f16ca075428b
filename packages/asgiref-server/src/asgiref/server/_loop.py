"""Work on the server's event loop: tasks, and calls from other threads.

Everything in this package belongs to one event loop. Worker threads (methods decorated with
``sync_to_async``) and threads that users start ask for instances and put messages all the same:
these few calls are made on the loop while their thread waits. They never wait for anything on the
loop, so two threads cannot wait for each other.
"""

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

_R = TypeVar("_R")

#: How often a waiting thread checks that the loop has not been closed without running its call.
_CHECK_SECONDS = 0.5
#: After so many checks that found the loop stopped, the call fails.
_MAX_CHECKS = 10


class LoopThread:
    """The event loop that a server uses, and the thread that runs it; created on that thread.

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
        """Return ``function(*args)`` as called on the loop, and block the calling thread meanwhile.

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
            del outcome  # an exception's traceback leads to this frame

    def close(self) -> None:
        """Refuse calls from now on, and those that are still waiting."""
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
    """Whether an event loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def start_task(coroutine: Coroutine[Any, Any, _R]) -> "asyncio.Future[_R]":
    """Start a task that takes its first step later, whichever task factory the loop has.

    An eager task factory would run other people's code in the middle of the caller's work. The
    factory is called with two arguments, which is all that some of them accept.
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
    """Cancel a task, unless its loop was closed before it ended."""
    if not task.get_loop().is_closed():
        task.cancel()


def detach(task: "asyncio.Future[Any]") -> None:
    """Stop Python from waiting for a task that ignores its cancellation.

    ``asyncio.run`` waits for every task that it knows of, without a limit. And a coroutine that is
    destroyed gets a GeneratorExit, which it may catch as well, and go on for ever: so it never is.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
    if isinstance(task, asyncio.Task):
        asyncio.tasks._unregister_task(task)  # pyright: ignore
        task._log_destroy_pending = False  # type: ignore[attr-defined] # pyright: ignore
