"""Tasks on the server's event loop, and the logger.

All state in this package belongs to one event loop. Other threads (users' own threads, and worker
threads that run methods decorated with ``sync_to_async``) may still ask for instances and put
messages: these calls run on the loop while their thread waits (`Instances.call`). On the loop they
never wait for anything, so two threads cannot deadlock.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_R = TypeVar("_R")

logger: logging.Logger = logging.getLogger("asgiref.server")


def run_for_thread(outcome: "Future[_R]", function: Callable[..., _R], *args: object) -> None:
    """Run a call for a thread that waits for ``outcome``, unless it has given up."""
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

    An eager task factory would run user code in the middle of the caller's work. The factory is
    called with two arguments, because some factories accept no more.
    """
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        return loop.create_task(function(*args))
    return loop.create_task(_later(function, *args))


async def _later(function: Callable[..., Coroutine[Any, Any, _R]], *args: object) -> _R:
    await asyncio.sleep(0)
    return await function(*args)
