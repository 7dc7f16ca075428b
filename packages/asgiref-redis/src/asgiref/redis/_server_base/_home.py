"""Calls that come from other threads, made on the thread of the event loop.

Everything in this package belongs to the thread of one event loop. A server with synchronous
methods has some of its own code on worker threads (``asgiref.sync`` runs them there), and that code
asks for instances and puts messages all the same. So while such a server runs, those few calls find
out whether they are at home, and if not, are made there while their thread waits. They never wait
for anything on the loop, so two threads cannot wait for each other.

``asgiref.sync.async_to_sync`` would do for the worker threads, but from a thread that the server's
own code has started it leads to another loop.

A thread may come at any time, also in the moment in which the server ends: under the lock a call is
either refused, or known to `close`, which fails it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_R = TypeVar("_R")


class Home:
    """The thread and the event loop that a server runs on; made there."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._closed = False

    def is_elsewhere(self) -> bool:
        """Whether the caller is on another thread."""
        return threading.get_ident() != self._thread

    def call(self, function: Callable[..., _R], *args: object) -> _R:
        """Return what ``function(*args)`` gives at home. Blocks the calling thread, another one.

        Raises:
            RuntimeError: if the server has ended.
        """
        outcome: Future[_R] = Future()
        with self._lock:
            if self._closed:
                raise self._ended(function)
            self._waiting.add(outcome)
            self._loop.call_soon_threadsafe(self._make, outcome, function, *args)
        try:
            return outcome.result()
        finally:
            del outcome  # an exception's traceback leads to this frame

    def _make(self, outcome: Future[_R], function: Callable[..., _R], *args: object) -> None:
        if outcome not in self._waiting:
            return
        self._waiting.discard(outcome)
        try:
            outcome.set_result(function(*args))
        except Exception as error:
            outcome.set_exception(error)

    def close(self) -> None:
        """Refuse calls from now on, and those that are not made yet."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, set()
        for outcome in waiting:
            outcome.set_exception(self._ended("a call"))

    def _ended(self, what: object) -> RuntimeError:
        name = getattr(what, "__name__", what)
        return RuntimeError(f"{self._server} has ended: {name} was called from another thread.")
