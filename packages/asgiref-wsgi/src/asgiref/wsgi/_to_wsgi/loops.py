"""The event loop of a process: its thread, its start at the first request, and its end.

All adapters with the same loop factory share one loop, so that their applications can share objects
that belong to it (connection pools, locks, queues). The invariant: only the process that created a
loop uses and ends it; a forked child creates its own.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol

from .threads import (
    PerProcess,
    ThreadQueue,
    leave_signals_to_uwsgi,
    new_channel,
    new_lock,
    start_daemon_thread,
)

_logger = logging.getLogger("asgiref.wsgi")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

#: Seconds that a loop may take to end, in addition to the time for its applications.
_MARGIN = 5.0


class Ending(Protocol):
    """A user of the loop that must end before the loop does."""

    @property
    def seconds_to_end(self) -> float: ...

    async def end(self) -> None: ...


class LoopClosed(RuntimeError):
    """The loop no longer runs, or the interpreter is shutting down."""


class BackgroundLoop:
    """An event loop that runs in its own thread until `close`."""

    def __init__(self, factory: LoopFactory) -> None:
        self._factory = factory
        # Reentrant, because the garbage collector may abandon a response while this thread holds
        # the lock.
        self._lock = new_lock()
        self._submitted: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._is_woken = False
        self._is_closed = False
        self._must_stop = False
        self.is_ending = False
        """Whether `close` was called, so no request may start. Used on the loop's thread only."""
        self._members: list[Ending] = []
        self._waiting: list[ThreadQueue[None]] = []  # threads that wait for the end
        self._last_task: asyncio.Task[None] | None = None
        started: ThreadQueue[asyncio.AbstractEventLoop | BaseException] = new_channel()
        start_daemon_thread("asgiref-wsgi-loop", lambda: self._work(started))
        loop = started.get()
        if isinstance(loop, BaseException):
            raise RuntimeError(f"the loop factory {factory!r} failed: {loop!r}") from loop
        self.loop = loop

    # The loop's thread

    def _work(self, started: ThreadQueue[asyncio.AbstractEventLoop | BaseException]) -> None:
        leave_signals_to_uwsgi()
        try:
            loop = self._factory()
        except BaseException as error:
            started.put(error)
            return
        started.put(loop)
        try:
            while not self._must_stop:
                try:
                    loop.run_forever()
                except BaseException:
                    # In asyncio, SystemExit or KeyboardInterrupt in a task ends the loop; here
                    # that would end all requests, but not the process.
                    _logger.exception("A task on the event loop of AsgiToWsgi failed")
        finally:
            with self._lock:
                self._is_closed = True
            # Run the functions that were submitted earlier, so that each can refuse its request.
            loop.call_soon(self._run_submitted)
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            for ended in self._waiting:
                ended.put(None)

    def _run_submitted(self) -> None:
        with self._lock:
            submitted, self._submitted = self._submitted, []
            self._is_woken = False
        for function, arguments in submitted:
            function(*arguments)

    def add(self, member: Ending) -> None:
        """Make `close` end this member before the loop."""
        self._members.append(member)

    def discard(self, member: Ending) -> None:
        """Undo `add`."""
        if member in self._members:
            self._members.remove(member)

    def _start_end(self, ended: ThreadQueue[None]) -> None:
        self._waiting.append(ended)
        if self._last_task is None:
            self._last_task = self.loop.create_task(self._end())

    async def _end(self) -> None:
        self.is_ending = True
        members, self._members = self._members, []
        await asyncio.gather(*[member.end() for member in members], return_exceptions=True)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_MARGIN / 2)
        await self.loop.shutdown_asyncgens()
        self._must_stop = True
        self.loop.stop()

    # Any other thread

    def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call the function on the loop's thread, in an empty context.

        Raises:
            LoopClosed: the loop is closed; the function will not run.
        """
        with self._lock:
            if self._is_closed:
                raise LoopClosed("the event loop is closed")
            self._submitted.append((function, arguments))
            if self._is_woken:
                return
            self._is_woken = True
        # Waking a loop costs a system call, and one is enough for many threads. Release the lock
        # first, because the loop needs it next.
        with suppress(RuntimeError):  # if the loop has just closed, it has run the function
            self.loop.call_soon_threadsafe(self._run_submitted, context=Context())

    def close(self) -> None:
        """End the members, the tasks and the loop, and wait for them up to a limit."""
        seconds = _MARGIN + max((member.seconds_to_end for member in self._members), default=0.0)
        ended: ThreadQueue[None] = new_channel()
        try:
            self.run(self._start_end, ended)
        except LoopClosed:
            return
        try:
            ended.get(timeout=seconds)
        except queue.Empty:
            _logger.error("The event loop of AsgiToWsgi did not end within %g seconds", seconds)


class _Loops:
    """The loops of one process, by factory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[LoopFactory, BackgroundLoop] = {}
        self._is_closed = False

    def get(self, factory: LoopFactory) -> BackgroundLoop:
        with self._lock:
            if self._is_closed:
                raise LoopClosed("the interpreter is shutting down")
            if factory not in self._threads:
                self._threads[factory] = BackgroundLoop(factory)
            return self._threads[factory]

    def close(self, *, forever: bool) -> None:
        with self._lock:
            self._is_closed = forever
            threads, self._threads = list(self._threads.values()), {}
        for thread in threads:
            thread.close()


_loops = PerProcess(_Loops)


def loop_thread(factory: LoopFactory | None) -> BackgroundLoop:
    """Return this process's loop for this factory; start it if necessary.

    Raises:
        LoopClosed: the interpreter is shutting down.
        RuntimeError: the loop cannot be created.
    """
    return _loops.get().get(factory or asyncio.new_event_loop)


def _close_at_exit(*, forever: bool = True) -> None:
    _loops.get().close(forever=forever)


# When the main thread ends, executors and new threads still work, and a shutdown may need them. If
# the server continues in its own threads, its next request starts a loop again, which ends after
# those threads. The executors' exit hook must run after this one, so it must be registered earlier:
# looking up ThreadPoolExecutor imports the module that registers it.
_EXECUTOR: type[ThreadPoolExecutor] = ThreadPoolExecutor
_register = getattr(threading, "_register_atexit", None)
if _register is not None:
    with suppress(RuntimeError):  # this module was imported while the interpreter was exiting
        _register(_close_at_exit, forever=False)
atexit.register(_close_at_exit)
