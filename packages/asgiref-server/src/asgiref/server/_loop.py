"""Tasks on the server's event loop, calls from other threads to it, and the logger.

All state in this package belongs to one event loop. Other threads (users' own threads, and worker
threads that run methods decorated with ``sync_to_async``) may still ask for instances and put
messages: these calls run on the loop while their thread waits. On the loop they never wait for
anything, so two threads cannot deadlock.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

_R = TypeVar("_R")

logger: logging.Logger = logging.getLogger("asgiref.server")

#: How often, in seconds, a waiting thread checks whether the loop ended without running its call.
_CHECK_SECONDS = 1.0


def call_on_loop(
    server: str,
    loop: asyncio.AbstractEventLoop,
    has_ended: Callable[[], bool],
    function: Callable[..., _R],
    *args: object,
) -> _R:
    """Run ``function(*args)`` on the loop of another thread, and return its result.

    Raises:
        RuntimeError: if the server has ended.
    """
    outcome: Future[_R] = Future()
    ended = has_ended() or loop.is_closed()
    if not ended:
        loop.call_soon_threadsafe(_make_call, outcome, function, *args)
    while not (ended or wait([outcome], _CHECK_SECONDS).done):
        ended = (has_ended() or not loop.is_running()) and outcome.cancel()
    if ended:
        raise RuntimeError(
            f"{server} has ended: {function.__name__} was called from another thread."
        )
    try:
        return outcome.result()
    finally:
        del outcome  # otherwise the exception's traceback and this frame form a cycle


def _make_call(outcome: "Future[_R]", function: Callable[..., _R], *args: object) -> None:
    if outcome.set_running_or_notify_cancel():
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


def start_task(
    function: Callable[..., Coroutine[Any, Any, _R]], *args: object
) -> "asyncio.Future[_R]":
    """Start a task whose first step runs later, even if the loop has an eager task factory.

    An eager task factory would run users' code in the middle of the caller's work. The factory is
    called with two arguments, because some factories accept no more.
    """
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        return loop.create_task(function(*args))
    return loop.create_task(_later(function, *args))


async def _later(function: Callable[..., Coroutine[Any, Any, _R]], *args: object) -> _R:
    await asyncio.sleep(0)
    return await function(*args)
