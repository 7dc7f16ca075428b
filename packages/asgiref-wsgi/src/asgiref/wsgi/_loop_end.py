"""Tells whether the event loop of a request can still run.

A server may stop its loop without cancelling the requests on it. At exit, the interpreter waits for
the worker threads, so a thread that waited for such a loop would keep the process from ending.
Threads therefore never wait for a loop without asking `has_ended` regularly.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from asgiref.sync import LimitedExecutor

#: Seconds between a waiting thread's checks.
CHECK_SECONDS = 0.5

# The exit hooks of these classes' modules wait for worker threads. The newest hook runs first, so
# both modules must be imported before the hook below is registered.
_WAITED_FOR = (ThreadPoolExecutor, LimitedExecutor)


class _Process:
    __slots__ = ("is_exiting",)

    def __init__(self) -> None:
        self.is_exiting = False


_PROCESS = _Process()


def _note_exit() -> None:
    _PROCESS.is_exiting = True


# `atexit` would be too late: its functions run after the interpreter has waited for the threads.
_register = getattr(threading, "_register_atexit", None)
if _register is not None:
    with suppress(RuntimeError):  # this module was imported while the interpreter was exiting
        _register(_note_exit)


def has_ended(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is closed, or was stopped and the main thread has ended. For any thread."""
    return loop.is_closed() or (_PROCESS.is_exiting and not loop.is_running())
