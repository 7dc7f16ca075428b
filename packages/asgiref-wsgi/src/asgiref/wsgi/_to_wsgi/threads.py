"""Threads, locks and channels between a server's threads and the thread of an event loop.

With gevent, a server's "thread" is a greenlet. The event loop then runs on a real, unpatched
thread, because asyncio records the running loop once per real thread: on the greenlets' own thread,
every greenlet would appear to run on the loop.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class ThreadQueue(Protocol[T]):
    """A queue to which any thread may add items, and from which one server thread takes them."""

    def put(self, item: T, /) -> None:
        """Add an item; never blocks."""

    def get(self, *, timeout: float | None = None) -> T:
        """Wait for an item and remove it; raises `queue.Empty` after `timeout` seconds."""
        ...

    def empty(self) -> bool:
        """Whether `get` would block."""
        ...


class PerProcess(Generic[T]):
    """A value that each process creates for itself, because it must not be used after a fork.

    Comparing process ids detects uWSGI's forks, which run none of Python's hooks. The values of
    parent processes are kept, because closing an inherited event loop would disturb its owner.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of this process; create it if necessary."""
        process = os.getpid()
        try:
            return self._values[process]
        except KeyError:
            return self._values.setdefault(process, self._make())  # atomic: one thread's value wins

    def pop(self) -> T | None:
        """Remove the value of this process, and return it."""
        return self._values.pop(os.getpid(), None)

    def replace(self, value: T) -> T:
        """Return the value of this process, but replace it first if it is `value`."""
        process = os.getpid()
        if self._values.get(process) is value:
            self._values.pop(process, None)
        return self.get()


class _GeventQueue(Generic[T]):
    """A channel to a greenlet, because gevent's queues only work within one hub."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._arrived: Any = import_module("gevent.event").Event()
        self._loop: Any = import_module("gevent").get_hub().loop

    def put(self, item: T, /) -> None:
        self._items.append(item)
        self._loop.run_callback_threadsafe(self._arrived.set)

    def get(self, *, timeout: float | None = None) -> T:
        while not self._items:
            self._arrived.clear()
            # `put` appends before it sets the event. So if the next line misses an item, its
            # `put` sets the event after this `clear`.
            if not self._items and not self._wait(timeout) and not self._items:
                raise queue.Empty
        return self._items.popleft()

    def _wait(self, timeout: float | None) -> bool:
        # gevent raises LoopExit if only another thread could end a wait. An active watcher
        # prevents that.
        watcher = self._loop.async_()
        watcher.start(int)
        try:
            return bool(self._arrived.wait(timeout))
        finally:
            watcher.stop()
            watcher.close()

    def empty(self) -> bool:
        return not self._items


def new_channel() -> ThreadQueue[Any]:
    """Return a channel to the calling thread."""
    return _GeventQueue() if is_patched_by_gevent() else queue.SimpleQueue()


def new_lock() -> AbstractContextManager[Any]:
    """Return a reentrant lock for real threads. Hold it only for a few instructions."""
    if is_patched_by_gevent():
        lock: AbstractContextManager[Any] = _original("RLock")()
        return lock
    return threading.RLock()


def start_daemon_thread(name: str, function: Callable[[], None]) -> None:
    """Run the function on a real daemon thread: the interpreter does not wait for it at exit.

    Raises:
        RuntimeError: the interpreter is shutting down, or this process must not have threads.
    """
    _refuse_eventlet()
    _refuse_uwsgi_without_threads()
    # Newer Pythons can start a thread with a copy of the context of the thread that started it; the
    # new thread would keep its values alive.
    context = Context()
    if is_patched_by_gevent():
        _original("start_new_thread")(context.run, (function,))
    else:
        thread = threading.Thread(target=context.run, args=(function,), name=name, daemon=True)
        thread.start()


def leave_signals_to_uwsgi() -> None:
    """Block all signals in this thread under uWSGI, as uWSGI does in its own threads.

    uWSGI's handlers end the process from the thread that receives the signal. If that were the
    loop's thread, it would wait for itself. With other servers, no signal is blocked, because a
    child process inherits the blocked signals of the thread that starts it.
    """
    if "uwsgi" in sys.modules and hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def is_patched_by_gevent() -> bool:
    """Whether gevent has replaced this process's threads with greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def _original(name: str) -> Any:
    """Return the original of a ``_thread`` function that gevent has replaced."""
    return import_module("gevent.monkey").get_original("_thread", name)


def _refuse_eventlet() -> None:
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise RuntimeError(
            "AsgiToWsgi does not work where eventlet has patched the threads: run the server with "
            "threads or with gevent instead"
        )


def _refuse_uwsgi_without_threads() -> None:
    # Without threads, uWSGI calls Python without a thread state, and crashes or hangs at exit.
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "has_threads", True):
        raise RuntimeError(
            "AsgiToWsgi needs a thread for the event loop: start uWSGI with --enable-threads"
        )
