"""One run of a server, from its first step to an end that leaves nothing on the event loop.

    serve ──> end `handle` ──> finish ──> cancel ──> cancel again ──> abandon ──> end the lifespan
    RUNNING                    CLOSING                                            CLOSED

Each step has a limit. A request to end (a signal, a cancellation) ends the step that runs: the
first one `serve`, the second one ``finish``, the third one the wait after the cancellation.

`Run._suspend` is the only place where the task of ``arun`` waits, and it turns a cancellation into
a request. So a cancellation interrupts no step, whenever and however often it comes.
"""

import asyncio
import inspect
import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from asgiref.compatibility import guarantee_single_callable

from ._hooks import safe_repr
from ._lifespan import Lifespan
from ._loop import LoopThread, detach, start_task
from ._table import Instances, Server, ServerState

logger = logging.getLogger("asgiref.server")

#: Seconds that a cancelled task gets at least to clean up.
_CLEANUP_SECONDS = 1.0
#: So often, and at intervals of so many seconds, a task that goes on is cancelled again.
_ATTEMPTS, _ATTEMPT_SECONDS = 20, 0.05
_ALWAYS = 1 << 30  # more requests than there will be


class Runnable(Server, Protocol):
    """The server, as far as running it needs it."""

    def handle(self) -> Any: ...
    def application_checker(self) -> Any: ...


class Reconnect:
    """Runs ``handle`` again after it returns or raises, later and later while that goes on.

    Pass one to `StatelessServer`. A connection counts as established when ``handle`` looks up its
    first scope, or calls `established`.

    Args:
        first_delay: seconds before ``handle`` is run again for the first time.
        max_delay: the maximum; the delay doubles until then. Each delay is shortened by a random
            part of up to a half, so that many bots do not come back in the same moment.

    Raises:
        ValueError: if a delay is negative.
    """

    def __init__(self, first_delay: float = 0.5, max_delay: float = 60.0) -> None:
        if first_delay < 0 or max_delay < 0:
            raise ValueError(f"A delay must not be negative: {first_delay!r}, {max_delay!r}.")
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._failures = 0

    def established(self) -> None:
        """Say that the connection works; called by ``handle``, on the server's event loop."""
        if self._failures:
            logger.info("The connection is back, after %d attempt(s)", self._failures)
        self._failures = 0

    def _lost(self, server: str, error: BaseException | None) -> float:
        """Take note that ``handle`` has ended; return the seconds to wait."""
        first, self._failures = not self._failures, self._failures + 1
        delay = min(self._first_delay * 2.0 ** min(self._failures - 1, 60), self._max_delay)
        delay *= random.uniform(0.5, 1.0)
        logger.log(
            logging.WARNING if first else logging.DEBUG,
            "%s.handle() %s; it is run again in %.1f s, until the connection is back",
            server,
            "returned" if error is None else f"raised {safe_repr(error)}",
            delay,
            exc_info=error if error is not None else False,
        )
        return delay


class Run:
    """One run of a server. Create it on the event loop, in the task of ``arun``."""

    def __init__(self, server: Runnable, instances: Instances) -> None:
        if instances.state in (ServerState.RUNNING, ServerState.CLOSING):
            raise RuntimeError(f"This {type(server).__name__} is running already.")
        self._server = server
        self._name = type(server).__name__
        self._instances = instances
        self._settings = instances.settings
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._cancelled_before = self._task.cancelling() if self._task else 0
        self._requests = 0
        self._cancelled = False
        self._fatal: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lifespan: Lifespan | None = None

    async def run(self) -> None:
        """Serve, then close.

        Raises:
            Exception: what ``handle`` or the checker raised.
            CancelledError: if this task was cancelled.
        """
        instances = self._instances
        instances.forget_other_loops()
        instances.thread = LoopThread(self._name)
        instances.on_finished = instances.hooks.on_idle = self._wake
        instances.hooks.on_fatal = self._end_with
        instances.request_end = self.request_end
        instances.state = ServerState.RUNNING
        try:
            await self._serve_and_close()
        finally:  # without an await: an abandoned coroutine is closed here
            instances.state = ServerState.CLOSED
            instances.on_finished = instances.hooks.on_idle = instances.hooks.on_fatal = None
            instances.lifespan_state = instances.on_contact = instances.request_end = None
            instances.thread.close()

    def request_end(self) -> None:
        """End the step that runs. Call it on the event loop."""
        self._requests += 1
        self._wake()

    # Waiting

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _suspend(self, seconds: float | None) -> None:
        """Wait until `_wake` is called, or for so many seconds."""
        self._waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        except asyncio.CancelledError:
            self._cancelled = True
            count = self._task.cancelling() - self._cancelled_before if self._task else 0
            self._requests = max(self._requests + 1, count)
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    async def _until(
        self, done: Callable[[], bool], requests: int, seconds: float | None = None
    ) -> bool:
        """Wait until ``done()``, a further request than so many, or the end of so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while not done():
            left = None if end is None else end - time.monotonic()
            if self._requests > requests or (left is not None and left <= 0):
                return False
            await self._suspend(left)
        return True

    async def _end(
        self, done: Callable[[], bool], cancel: Callable[[], None], abandon: Callable[[], None]
    ) -> None:
        """Cancel until ``done()``, and abandon what ignores that."""
        cancel()
        hurried = self._requests > 1
        limit = _CLEANUP_SECONDS if hurried else self._cleanup_seconds()
        if await self._until(done, max(self._requests, 1), limit):
            return
        for _ in range(_ATTEMPTS):
            cancel()
            if await self._until(done, _ALWAYS, _ATTEMPT_SECONDS):
                return
        abandon()

    def _cleanup_seconds(self) -> float:
        return max(self._settings.shutdown_timeout, _CLEANUP_SECONDS)

    # Serving

    async def _serve_and_close(self) -> None:
        main = self._start(self._main())
        checker = self._start(self._call(self._server.application_checker))
        await self._until(lambda: main.done() or self._has_failed(checker), 0)
        raised = self._outcome(main, checker)
        self._requests = max(self._requests, 1)
        await self._end_tasks([main, checker])
        self._log_failures([main, checker], raised)
        await self._close()
        if self._fatal is not None:
            raise self._fatal
        if self._cancelled:
            raise asyncio.CancelledError
        if raised is not None:
            raise raised

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        task = start_task(coroutine)
        task.add_done_callback(self._wake)
        return task

    async def _call(self, method: Callable[[], Any]) -> None:
        """Await a method of the server."""
        try:
            running = method()
            if not inspect.isawaitable(running):
                raise TypeError(
                    f"{self._name}.{getattr(method, '__name__', 'handle')}() returned "
                    f"{type(running).__name__!r}, which cannot be awaited. Write it with 'async "
                    "def', or decorate it with sync_to_async(thread_sensitive=False)."
                )
            await running
        except (KeyboardInterrupt, SystemExit) as error:
            self._end_with(error)  # a task would throw it into the code that runs the event loop

    def _end_with(self, error: BaseException) -> None:
        self._fatal = self._fatal or error
        self.request_end()

    async def _main(self) -> None:
        if self._settings.lifespan:
            application = guarantee_single_callable(self._server.application)
            self._lifespan = Lifespan(application, self._wake)
            if await self._lifespan.startup():
                self._instances.lifespan_state = self._lifespan.state
        reconnect: Reconnect | None = self._settings.reconnect
        if reconnect is None:
            await self._handle()
            return
        while True:
            error = await self._handle_once(reconnect)
            if self._fatal is not None:
                return
            await asyncio.sleep(reconnect._lost(self._name, error))  # pyright: ignore

    async def _handle(self) -> None:
        try:
            await self._call(self._server.handle)
        except Exception as error:
            if not self._requests:
                logger.error(
                    "%s.handle() failed, and the server ends: %s", *(self._name, safe_repr(error))
                )
            raise

    async def _handle_once(self, reconnect: Reconnect) -> Exception | None:
        self._instances.on_contact = reconnect.established if reconnect._failures else None  # pyright: ignore
        try:
            await self._call(self._server.handle)
        except NotImplementedError:
            raise  # it is no connection that was lost
        except Exception as error:
            return error
        finally:
            self._instances.on_contact = None
        return None

    def _has_failed(self, task: "asyncio.Future[None]") -> bool:
        return task.done() and not task.cancelled() and task.exception() is not None

    def _outcome(
        self, main: "asyncio.Future[None]", checker: "asyncio.Future[None]"
    ) -> BaseException | None:
        """Return what ends the server, if that is an exception."""
        if self._requests:
            return None
        if not main.done():
            return checker.exception()
        if main.cancelled():
            return asyncio.CancelledError()
        return main.exception()

    # Closing

    async def _end_tasks(self, tasks: "Sequence[asyncio.Future[Any]]") -> None:
        def cancel() -> None:
            for task in tasks:
                task.cancel()

        def abandon() -> None:
            for task in tasks:
                if not task.done():
                    logger.error("%r ignores its cancellation, and is abandoned", task)
                    detach(task)

        await self._end(lambda: all(task.done() for task in tasks), cancel, abandon)

    def _log_failures(
        self, tasks: "Sequence[asyncio.Future[Any]]", raised: BaseException | None
    ) -> None:
        for task in tasks:
            if self._has_failed(task) and (error := task.exception()) is not raised:
                logger.error("%r failed while it was ended", task, exc_info=error)

    async def _close(self) -> None:
        instances = self._instances
        instances.state = ServerState.CLOSING
        instances.ask_to_finish()
        await self._until(instances.is_finished, 1, self._settings.shutdown_timeout)
        await self._end(instances.is_finished, instances.cancel, instances.abandon)
        if self._lifespan is not None:
            await self._end_lifespan(self._lifespan)
            await self._end(instances.is_finished, instances.cancel, instances.abandon)

    async def _end_lifespan(self, lifespan: Lifespan) -> None:
        seconds = self._settings.shutdown_timeout
        lifespan.ask_to_stop()
        if not await self._until(lambda: not lifespan.is_stopping(), 1, seconds):
            logger.warning("The application did not answer lifespan.shutdown in %g s", seconds)
        await self._end_tasks([lifespan.task])


# The event loop and the signals of `StatelessServer.run`


def run_to_end(
    arun: Callable[[], Coroutine[Any, Any, None]], instances: Instances
) -> signal.Signals | None:
    """Run a server on an event loop of its own; return the signal that ended it, if one did."""
    runner = asyncio.Runner()
    loop = runner.get_loop()
    main = loop.create_task(arun())

    def request_end() -> None:
        if instances.request_end is not None:
            instances.request_end()
        else:
            main.cancel()

    with owned_signals(loop, request_end) as signals:
        try:
            escaped = _complete(loop, main, request_end)
            signals.closing = True
            loop.run_until_complete(_clear_loop(instances))
        finally:
            runner.close()
    if escaped is not None:
        raise escaped
    if not (signals.first is not None and main.cancelled()):
        main.result()
    return signals.first


def _complete(
    loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]", request_end: Callable[[], None]
) -> BaseException | None:
    """Run the loop until the server has ended, also when an exception breaks out of the loop."""
    escaped: BaseException | None = None
    while not main.done():
        try:
            loop.run_until_complete(main)
        except BaseException as error:
            if not main.done():
                escaped = escaped or error
                request_end()
    return escaped


async def _clear_loop(instances: Instances) -> None:
    """End the tasks that ``handle`` and applications left behind, and report their messages."""

    def rest() -> "set[asyncio.Task[Any]]":
        return asyncio.all_tasks() - {asyncio.current_task()} - instances.hooks.tasks

    for attempt in range(_ATTEMPTS):
        if instances.is_finished() and not rest():
            return
        for task in rest():
            task.cancel()
        await asyncio.sleep(0)  # what these tasks put on their way out is reported meanwhile
        if pending := {*rest(), *instances.hooks.tasks}:
            seconds = _CLEANUP_SECONDS if attempt == 0 else _ATTEMPT_SECONDS
            await asyncio.wait(pending, timeout=seconds)
    instances.cancel()
    await asyncio.sleep(_ATTEMPT_SECONDS)
    for task in rest():
        logger.error("%r ignores its cancellation, and is abandoned", task)
        detach(task)
    instances.abandon()


class Signals:
    """Turns SIGINT and SIGTERM into calls of ``request_end`` between two steps of the loop.

    If the loop is stuck in some function, the second signal raises KeyboardInterrupt there, and the
    third one ends the process.

    Attributes:
        first: the first signal that came.
        closing: the server has ended and the loop is being closed: there is nothing left to ask.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, request_end: Callable[[], None]) -> None:
        self._loop = loop
        self._request_end = request_end
        self._unheard = False
        self._interrupted = False
        self._alive_at = 0.0
        self._over = False
        self.closing = False
        self.first: signal.Signals | None = None

    def handler(self, number: int, frame: FrameType | None) -> None:
        """Run on the main thread, between any two instructions."""
        if self._over or self._loop.is_closed():
            return
        if self._unheard or (self.first and (self.closing or self._is_stuck())):
            self._break_off(number)
        self._unheard = True
        self.first = self.first or signal.Signals(number)
        self._loop.call_soon_threadsafe(self._hear)

    def _is_stuck(self) -> bool:
        return time.monotonic() - self._alive_at > _STUCK_SECONDS

    def _break_off(self, number: int) -> None:
        if self._interrupted:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._interrupted = True
        raise KeyboardInterrupt

    def _hear(self) -> None:
        if self._unheard:
            self._unheard = self._interrupted = False
            if not self._alive_at:
                self._beat()
            self._request_end()

    def _beat(self) -> None:
        self._alive_at = time.monotonic()
        if not self._over:
            self._loop.call_later(_STUCK_SECONDS / 5, self._beat)

    def end(self) -> None:
        """Ignore signals from now on: the handlers are about to be restored."""
        self._over = True


#: A loop that has not turned for so many seconds after a signal is stuck.
_STUCK_SECONDS = 0.5


@contextmanager
def owned_signals(
    loop: asyncio.AbstractEventLoop, request_end: Callable[[], None]
) -> Generator[Signals, None, None]:
    """Handle the signals during the block, on the main thread and where no other code does."""
    signals = Signals(loop, request_end)
    defaults: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    previous: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number, default in defaults.items():
                if signal.getsignal(number) is default:
                    previous[number] = default
                    signal.signal(number, signals.handler)
        yield signals
    finally:
        signals.end()
        for number, default in previous.items():
            signal.signal(number, default)
