"""The application in one process: its loop, its lifespan, and the tasks of its requests.

The invariant: a task is in `_task_of` from its start to its end, and `end` waits for all tasks
before it shuts down the lifespan.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass

from .._tasks import start_task
from .call import ApplicationCall
from .lifespan import Application, LifespanCall, LifespanMode, StartupFailed
from .loops import BackgroundLoop, LoopClosed, LoopFactory, loop_thread
from .threads import ThreadQueue, new_channel

_logger = logging.getLogger("asgiref.wsgi")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an adapter; see `AsgiToWsgi`."""

    lifespan: LifespanMode
    loop_factory: LoopFactory | None
    backpressure: int
    disconnect_timeout: float
    shutdown_timeout: float


class RunningApplication:
    """The application in this process, from its first request to `close` or exit."""

    def __init__(self, application: Application, options: Options) -> None:
        self._application = application
        self.options = options
        self._starting = threading.Lock()
        self._thread: BackgroundLoop | None = None
        self._outcome: list[StartupFailed | None] = []  # one item once the startup has ended
        self._lifespan: LifespanCall | None = None
        self._startup: asyncio.Task[StartupFailed | None] | None = None
        self.is_ended = False
        """Whether `end` has started, so no request may start."""
        self._ending: asyncio.Task[None] | None = None
        self._task_of: dict[ApplicationCall, asyncio.Task[None]] = {}

    # The server's threads

    def start(self) -> BackgroundLoop:
        """Start the loop and the application if necessary; return the loop's thread.

        Raises:
            StartupFailed: the startup failed, now or earlier.
            LoopClosed: the interpreter is shutting down.
            RuntimeError: the loop cannot be created.
        """
        if not self._outcome:
            self._wait_for_startup()
        failure = self._outcome[0]
        if failure is not None:
            raise failure
        assert self._thread is not None  # set before the outcome
        return self._thread

    def _wait_for_startup(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = loop_thread(self.options.loop_factory)
            thread = self._thread
        outcome: ThreadQueue[StartupFailed | None] = new_channel()
        thread.run(self._report_startup, thread, outcome)
        self._outcome.append(outcome.get())

    @property
    def state(self) -> dict[str, object] | None:
        """A copy of the lifespan's state for a request; None if no lifespan runs."""
        if self._lifespan is None or self.options.lifespan is LifespanMode.OFF:
            return None
        return self._lifespan.state.copy()

    def begin(self, thread: BackgroundLoop, call: ApplicationCall) -> None:
        """Start the application's task, with a copy of the calling thread's context variables."""
        thread.run(self._begin, thread, call, copy_context())

    def abandon(self, thread: BackgroundLoop, call: ApplicationCall) -> None:
        """Stop the application, because the server has abandoned the response."""
        with suppress(LoopClosed):  # the call ended with the loop
            thread.run(self._abandon, call)

    def close(self) -> None:
        """End the requests and the lifespan, and wait until they have ended."""
        thread = self._thread
        if thread is None:
            return
        ended: ThreadQueue[None] = new_channel()
        try:
            thread.run(self._close, thread, ended)
        except LoopClosed:
            return
        try:
            ended.get(timeout=self.seconds_to_end)
        except queue.Empty:
            _logger.error("The application did not end within %g seconds", self.seconds_to_end)

    # The loop's thread

    def _report_startup(
        self, thread: BackgroundLoop, outcome: ThreadQueue[StartupFailed | None]
    ) -> None:
        if self.is_ended or thread.is_ending:
            outcome.put(StartupFailed("the application was closed"))
            return
        if self._startup is None:
            self._lifespan = LifespanCall(self._application, self.options.lifespan)
            self._startup = thread.loop.create_task(self._lifespan.start())
            thread.add(self)
        self._startup.add_done_callback(lambda task: outcome.put(_result_of(task)))

    def _begin(self, thread: BackgroundLoop, call: ApplicationCall, context: Context) -> None:
        if self.is_ended or thread.is_ending:
            call.abandon()
            return
        task = start_task(call.run(self._application), thread.loop, "ASGI application", context)
        self._task_of[call] = task
        task.add_done_callback(lambda _: self._task_of.pop(call))

    def _abandon(self, call: ApplicationCall) -> None:
        call.abandon()
        self.stop_later(call)

    def stop_later(self, call: ApplicationCall) -> None:
        """Cancel the call's task after the timeout if its response is not complete by then.

        After a complete response, the application may do further work, for any request.
        """
        task = self._task_of.get(call)
        if task is None:
            return

        def stop() -> None:
            if not call.is_complete:
                task.cancel()

        timer = asyncio.get_running_loop().call_later(self.options.disconnect_timeout, stop)
        task.add_done_callback(lambda _: timer.cancel())

    def _close(self, thread: BackgroundLoop, ended: ThreadQueue[None]) -> None:
        thread.discard(self)
        self._ending = thread.loop.create_task(self.end())
        self._ending.add_done_callback(lambda _: ended.put(None))

    @property
    def seconds_to_end(self) -> float:
        """The maximum duration of `end`, plus a margin."""
        return self.options.disconnect_timeout * 2 + self.options.shutdown_timeout * 3 + 1

    async def end(self) -> None:
        """Stop all requests, then shut down the application."""
        self.is_ended = True
        for call in self._task_of:
            call.abandon()
        await self._wait_for_tasks()
        for task in self._task_of.values():
            task.cancel()
        await self._wait_for_tasks()
        if self._task_of:
            _logger.error(
                "%d requests are still running although they were cancelled", len(self._task_of)
            )
        if self._lifespan is not None:
            await self._lifespan.stop(self.options.shutdown_timeout)

    async def _wait_for_tasks(self) -> None:
        if self._task_of:
            await asyncio.wait(self._task_of.values(), timeout=self.options.disconnect_timeout)


def _result_of(task: asyncio.Task[StartupFailed | None]) -> StartupFailed | None:
    if task.cancelled():
        return StartupFailed("the process is exiting")
    return task.result()
