"""One run of a server, from its start to an end that leaves nothing on the event loop.

    serve ──> end `handle` ──> finish ──> cancel ──> cancel again ──> abandon ──> end the lifespan
    RUNNING                    CLOSING                                            CLOSED

Each step has a time limit. A cancellation (a signal causes one) ends the step ``serve``; the next
one shortens all limits.

The task that runs ``arun`` waits only in `ServerRun._wait`, which counts cancellations. So none of
them interrupts a step, no matter when they arrive or how many there are. After ``serve``, the task
checks at short intervals whether the step is complete, so nothing has to report completion.
"""

import asyncio
import contextlib
import inspect
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from os import _exit
from types import FrameType
from typing import Any, cast

from asgiref.compatibility import guarantee_single_callable

from ._lifespan import ServerLifespan
from ._loop import logger, safe_repr, start_task
from ._table import Instances, ServerState

#: The minimum number of seconds that a cancelled task gets to clean up.
_CLEANUP_SECONDS = 1.0
#: How many times a task that ignores its cancellation is cancelled again, and how many seconds
#: apart.
_ATTEMPTS, _ATTEMPT_SECONDS = 20, 0.05

#: The call to ``handle`` that, directly or indirectly, started the current task or timer, if any.
_origin: ContextVar[object] = ContextVar("asgiref.server.handle", default=None)


class Reconnect:
    """Runs ``handle`` again after it returns or raises, with a growing delay.

    Pass one to `StatelessServer`. A connection counts as established when ``handle`` looks up its
    first scope, or calls `established`.

    Args:
        first_delay: seconds before ``handle`` runs again for the first time.
        max_delay: the maximum; the delay doubles until it reaches this. Each delay is shortened by
            a random amount of up to half, so that many bots do not reconnect at the same moment.

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
        """Report that the connection works. Call it in ``handle``, on the server's event loop."""
        if self._failures:
            logger.info("The connection is back, after %d attempt(s)", self._failures)
        self._failures = 0

    def _notice(self, origin: object) -> None:
        """React to a look-up, unless it comes from a timer of an earlier connection."""
        if _origin.get() in (None, origin):
            self.established()

    def _lost(self, server: str, error: BaseException | None) -> float:
        """Record that ``handle`` has ended; return the seconds to wait."""
        first, self._failures = not self._failures, self._failures + 1
        delay = min(self._first_delay * 2.0 ** min(self._failures - 1, 60), self._max_delay)
        delay *= random.uniform(0.5, 1.0)
        log = logger.warning if first else logger.debug
        text = "returned" if error is None else f"raised {safe_repr(error)}"
        log("%s.handle() %s; it will run again in %.1f s", server, text, delay, exc_info=error)
        return delay


@dataclass(slots=True)
class ServerRun:
    """One run of a server. Create it on the event loop, in the task that runs ``arun``."""

    _server: Any
    _instances: Instances
    #: The arguments of the CancelledError to raise at the end, if this was cancelled.
    _cancelled: tuple[Any, ...] | None = None
    #: How many times the run was told to end: once when ``handle`` ends, once per cancellation.
    _requests: int = 0
    #: An exception from the server's methods that should end the process, such as SystemExit.
    _fatal: "asyncio.Future[BaseException]" = field(init=False)
    _lifespan: ServerLifespan | None = None

    async def run(self) -> None:
        """Serve, then close.

        Raises:
            Exception: any exception that ``handle`` or the checker raises.
            CancelledError: if this task was cancelled.
        """
        instances = self._instances
        if instances.is_running():
            raise RuntimeError(f"This {type(self._server).__name__} is already running.")
        loop = instances.use_running_loop()
        self._fatal = loop.create_future()
        instances.hooks.on_fatal = self._end_with
        instances.state = ServerState.RUNNING
        try:
            await self._serve_and_close()
        finally:  # no await here: this also runs when an abandoned coroutine is closed
            if instances.loop is loop:  # unless the server now runs on another loop
                instances.state = ServerState.CLOSED
                instances.lifespan_state = instances.on_contact = None

    def _end_with(self, error: BaseException) -> None:
        if not self._fatal.done():
            self._fatal.set_result(error)

    def _is_ending(self) -> bool:
        return bool(self._requests) or self._fatal.done()

    # Waiting

    async def _wait(self, awaitable: Awaitable[object]) -> None:
        """Await something that does not raise; a cancellation interrupts it, and is counted."""
        try:
            await awaitable
        except asyncio.CancelledError as error:
            # anyio repeats a cancellation until the task has ended, with the name of its scope.
            self._requests += not (error.args and error.args == self._cancelled)
            if self._cancelled != ():  # a scope must not swallow the cancellation of another caller
                self._cancelled = error.args

    async def _until(self, done: Callable[[], bool], seconds: float, hurried: float) -> bool:
        """Wait for ``done()``: at most ``seconds``, or ``hurried`` once told to hurry."""
        begin, pause = time.monotonic(), 0.0
        while not done():
            left = begin + (hurried if self._requests > 1 else seconds) - time.monotonic()
            if left <= 0:
                return False
            await self._wait(asyncio.sleep(min(left, pause)))
            pause = min(2 * pause + 0.001, _ATTEMPT_SECONDS)
        return True

    async def _end(self, pending: "Callable[[], Collection[asyncio.Future[Any]]]") -> None:
        """Cancel tasks until none is pending; abandon those that ignore cancellation."""
        seconds = max(self._instances.settings.shutdown_timeout, _CLEANUP_SECONDS)
        for attempt in range(1 + _ATTEMPTS):
            for task in pending():
                self._instances.cancel(task)
            limits = (_ATTEMPT_SECONDS,) * 2 if attempt else (seconds, _CLEANUP_SECONDS)
            if await self._until(lambda: not pending(), *limits):
                return
        for task in pending():
            self._instances.abandon(task)

    # Serving

    async def _serve_and_close(self) -> None:
        main = start_task(self._main)
        checker = start_task(self._call, self._server.application_checker)
        while not (self._is_ending() or main.done() or _failure(checker)):
            tasks = [each for each in (self._fatal, main, checker) if not each.done()]
            await self._wait(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
        ended = None
        if not self._is_ending():
            ended = main if main.done() else checker
        self._requests = max(self._requests, 1)
        await self._end(lambda: [task for task in (main, checker) if not task.done()])
        for task in (main, checker):
            if task is not ended and (error := _failure(task)) is not None:
                logger.error("%r failed while it was being cancelled", task, exc_info=error)
        await self._close()
        if self._fatal.done():
            raise self._fatal.result()
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)
        if ended is not None:
            ended.result()

    async def _call(self, method: Callable[[], Any]) -> None:
        """Call a method of the server, and await the awaitable that it may return."""
        try:
            result = method()
            if inspect.isawaitable(result):
                await result
        except (KeyboardInterrupt, SystemExit) as error:
            self._end_with(error)  # a task would raise it in the code that runs the event loop

    async def _main(self) -> None:
        settings = self._instances.settings
        if settings.lifespan:
            application = guarantee_single_callable(self._server.application)
            self._lifespan = ServerLifespan(application)
            if await self._lifespan.startup():
                self._instances.lifespan_state = self._lifespan.state
        while (delay := await self._handle(settings.reconnect)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(delay)

    async def _handle(self, reconnect: Reconnect | None) -> float | None:
        """Run ``handle``; return the seconds until the next run, or None if there is none."""
        error: BaseException | None = None
        name = type(self._server).__name__
        main = cast("asyncio.Task[None]", asyncio.current_task())
        if reconnect is not None:
            _origin.set(origin := object())
            self._instances.on_contact = partial(reconnect._notice, origin)  # pyright: ignore[reportPrivateUsage]
        try:
            await self._call(self._server.handle)
        except (Exception, asyncio.CancelledError) as raised:
            # Other exceptions may follow an old timeout, which does not undo its cancellation.
            is_cancelled = isinstance(raised, asyncio.CancelledError) and main.cancelling()
            if is_cancelled or self._is_ending():
                raise
            if reconnect is None or isinstance(raised, NotImplementedError):
                logger.error(
                    "%s.handle() failed; the server is shutting down: %s", name, safe_repr(raised)
                )
                raise
            error = raised
        self._instances.on_contact = None
        if reconnect is None or self._is_ending():
            return None  # it may have returned because it was cancelled
        return reconnect._lost(name, error)  # pyright: ignore[reportPrivateUsage]

    # Closing

    async def _close(self) -> None:
        instances, seconds = self._instances, self._instances.settings.shutdown_timeout
        instances.state = ServerState.CLOSING
        await self._until(instances.is_drained, seconds, 0)
        await self._end(instances.pending)
        if (lifespan := self._lifespan) is not None:
            lifespan.ask_to_stop()
            if not await self._until(lambda: not lifespan.is_stopping(), seconds, 0):
                logger.warning("The application did not answer lifespan.shutdown in %g s", seconds)
            await self._end(lambda: [] if lifespan.task.done() else [lifespan.task])
            await self._until(lambda: not instances.pending(), max(seconds, _CLEANUP_SECONDS), 0)
            await self._end(instances.pending)

    async def clear_loop(self) -> None:
        """End the tasks that ``handle`` and applications left behind, and report their messages."""
        self._requests = 2
        kept = {asyncio.current_task(), *self._instances.abandoned}
        await self._until(lambda: not self._instances.hooks.tasks, 0, _CLEANUP_SECONDS)
        await self._end(lambda: asyncio.all_tasks() - kept)
        generators = asyncio.create_task(asyncio.get_running_loop().shutdown_asyncgens())
        await asyncio.wait({generators}, timeout=_CLEANUP_SECONDS)
        await self._end(lambda: asyncio.all_tasks() - kept)


def _failure(task: "asyncio.Future[None]") -> BaseException | None:
    """Return the exception that ended a task, or None."""
    return task.exception() if task.done() and not task.cancelled() else None


# The event loop and the signals of `StatelessServer.run`


def run_to_end(arun: Callable[[], Any], instances: Instances) -> signal.Signals | None:
    """Run a server on its own event loop; return the signal that ended it, or None."""
    if instances.is_running():
        raise RuntimeError("This server is already running on another thread.")
    running = arun()
    loop = asyncio.new_event_loop()  # not asyncio.run, which waits for tasks indefinitely
    main = loop.create_task(running)

    is_overridden = False
    with Signals(loop, main) as signals:
        try:
            escaped = signals.complete()
            is_overridden = instances.state is ServerState.IDLE
            instances.state = ServerState.CLOSED  # threads that call the server get an error
            loop.run_until_complete(ServerRun(None, instances).clear_loop())
            signals.wait_for_threads()
        finally:
            loop.close()
            if is_overridden:
                instances.state = ServerState.IDLE
            if signals.first is not None:
                seconds = 0.0 if signals.is_repeated else instances.settings.shutdown_timeout
                arguments = (signals.first, seconds)
                threading.Thread(target=_end_despite_threads, args=arguments, daemon=True).start()
    if escaped is not None:
        raise escaped
    if not (signals.first is not None and main.cancelled()):
        main.result()
    return signals.first


def _end_despite_threads(first: signal.Signals, seconds: float) -> None:
    """Report threads that outlive the main thread; after SIGTERM, kill the process.

    Python waits for them indefinitely, even if a thread only waits on a socket. This runs on a
    daemon thread, for which Python does not wait. Any later signal ends the process by itself.
    """
    with ThreadPoolExecutor() as executor, contextlib.suppress(RuntimeError):
        while True:  # until Python refuses this, because the main thread has ended
            executor.submit(int).result()
            time.sleep(_ATTEMPT_SECONDS)
    time.sleep(_CLEANUP_SECONDS)
    rest, is_term = seconds - _CLEANUP_SECONDS, first is signal.SIGTERM
    if (left := _threads()) and (rest > 0 or not is_term):
        text = (
            "Waiting for threads that are still running: %r. "
            "Another %s kills the process immediately"
        )
        logger.warning(text, left, first.name)
    time.sleep(max(0.0, rest))
    if is_term and (left := _threads()):
        logger.error("Threads are still running after SIGTERM; abandoning them: %r", left)
        _kill(signal.SIGTERM)


def _kill(number: signal.Signals) -> None:
    """Let a signal end the process, unless the program has its own handler for it."""
    signal.raise_signal(number)
    if os.getpid() == 1 and signal.getsignal(number) is signal.SIG_DFL:
        _exit(128 + number)  # the kernel ignores the signal in a container's first process


def _threads() -> list[threading.Thread]:
    others = set(threading.enumerate()) - {threading.main_thread()}
    return [each for each in others if not each.daemon]


#: The longest interval between two steps of the loop, in seconds: before and after the first
#: signal. After that signal, a loop that has not run for `_STUCK_SECONDS` is stuck.
_IDLE_BEAT_SECONDS, _BEAT_SECONDS, _STUCK_SECONDS = 1.0, 0.2, 0.5

#: How many cancellations ``arun`` may ignore; the next signal kills the process.
_MAX_CANCELLATIONS = 5

_DEFAULT_HANDLERS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@dataclass(slots=True)
class Signals:
    """Turns SIGINT and SIGTERM into cancellations of the task that runs ``arun``.

    If a function blocks the loop, the second signal raises KeyboardInterrupt there, and the third
    one kills the process. If ``arun`` ignores every cancellation, the sixth signal kills it. This
    is a context manager: it handles signals during the block, on the main thread, unless the
    program has its own handler for the signal.
    """

    _loop: asyncio.AbstractEventLoop
    _main: "asyncio.Task[None]"
    _pid: int = field(default_factory=os.getpid)
    #: The first signal that arrived.
    first: signal.Signals | None = None
    #: Whether another one arrived before the server had ended.
    is_repeated: bool = False
    #: How many signals arrived since the loop last handled one.
    _unheard: int = 0
    _beat_at: float = 0.0

    def complete(self) -> BaseException | None:
        """Run the loop until the server has ended, even if an exception escapes from the loop."""
        escaped: BaseException | None = None
        self._beat()
        while not self._main.done():
            try:
                self._loop.run_until_complete(self._main)
            except BaseException as error:
                if not self._main.done():
                    escaped = escaped or error
                    self._main.cancel()
        return escaped

    def wait_for_threads(self) -> None:
        """Wait for the loop's threads until a signal arrives; see `_end_despite_threads`."""
        with contextlib.suppress(KeyboardInterrupt):
            self._unheard = 1  # no task is left that a signal could cancel, so the first one raises
            if self.first is None:
                self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._unheard = 0

    def _beat(self) -> None:
        """Record at intervals that the loop runs, and let Python call `_handle`.

        A signal does not interrupt a selector that the main thread is just about to enter.
        """
        seconds = _BEAT_SECONDS if self.first else _IDLE_BEAT_SECONDS
        self._loop.call_later(seconds, self._beat)
        self._beat_at = time.monotonic()

    def __enter__(self) -> "Signals":
        for number, default in _DEFAULT_HANDLERS.items():
            handler = signal.getsignal(number)
            # A process that a running server forked has the handler of that server.
            if handler is default or isinstance(getattr(handler, "__self__", None), Signals):
                with contextlib.suppress(ValueError):  # this is not the main thread
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, default in _DEFAULT_HANDLERS.items():
            if signal.getsignal(number) == self._handle:  # unless the program has set its own
                signal.signal(number, default)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal; Python calls this on the main thread, between any two instructions."""
        number = signal.Signals(signum)
        if os.getpid() != self._pid:  # multiprocessing, for example, has forked this process
            signal.signal(number, _DEFAULT_HANDLERS[number])
            return _kill(number)
        self.is_repeated = self.first is not None
        self.first = self.first or number
        if self._loop.is_closed():  # do not raise in code that follows the block
            return
        stuck = self._main.done() or time.monotonic() - self._beat_at > _STUCK_SECONDS
        self._unheard = max(self._unheard + 1, 2 if self.is_repeated and stuck else 1)
        self._loop.call_soon_threadsafe(self._hear)
        if self._unheard > 2 or self._main.cancelling() >= _MAX_CANCELLATIONS:
            signal.signal(number, signal.SIG_DFL)
            _kill(number)
        if self._unheard > 1:
            raise KeyboardInterrupt

    def _hear(self) -> None:
        self._unheard = 0
        self._beat()
        self._main.cancel()
