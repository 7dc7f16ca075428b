"""Event loops for synchronous code that has none above it.

A loop thread runs one loop for ever. It serves one top-level call of `async_to_sync` at a time, or
all those of one `AsyncSingleThreadContext`. After a call the loop is used again only if it is as
good as new (`_pristine`); if not, everything that is left on it is ended as `asyncio.run` does
(tasks cancelled and awaited, asynchronous generators and the default executor shut down), the loop
is closed and the thread goes on with a new one. The caller is woken after that, never before: until
then its thread serves the sync code of the tasks that are being cancelled.

Idle loop threads wait in the pool and end after a while. They are daemon threads and nobody waits
for them at exit; a caller in an ``atexit`` function can still use one that is there.

In a forked child the loops of the pool are the parent's, and running nowhere. They are set aside
and never closed: closing one removes its descriptors from an epoll object that both processes
share.
"""

import asyncio
import contextlib
import contextvars
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from ._coroutines import CoroutineCall
from ._deadlocks import stop_watching
from ._frames import CurrentThreadExecutor
from ._inbox import Inbox
from ._parking import Parking
from ._pristine import Baseline
from ._threads import PROCESS, THREAD, start_daemon
from ._workers import IDLE_SECONDS

__all__ = ["LoopPool", "LoopThread", "shut_down"]

# A call may leave callbacks in the ready queue that only tell each other that something is done.
# They get this many turns of the loop before the loop counts as used.
_SETTLING_TURNS = 3


def _current_policy() -> object:
    """Return what makes new loops; another object when the application installed another one."""
    if sys.version_info >= (3, 14):
        return asyncio.events._get_event_loop_policy()  # type: ignore[attr-defined]
    return asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]


class LoopThread:
    """A daemon thread that runs an event loop."""

    def __init__(
        self,
        name: str,
        idle: "Callable[[LoopThread], None]",
        expire: "Callable[[LoopThread], bool]",
    ) -> None:
        self._idle = idle
        self._expire = expire
        self.epoch: int = PROCESS.epoch
        #: The calls whose coroutines run on the loop.
        self._calls: set[CoroutineCall] = set()
        #: The frames to wake when the loop has been ended.
        self._waiting: list[CurrentThreadExecutor] = []
        self._dedicated = False
        self._ending = False
        self._retired = False
        #: Whether it is in the pool.
        self._resting = False
        self._uses = 0
        self._uses_when_last_looked = 0
        # In an empty context: a loop keeps the one that it was made in, for its self-pipe and its
        # timers, and with it all the values of the call that needed a loop.
        contextvars.Context().run(self._make_loop)
        self.thread: threading.Thread = start_daemon(self._run, name)

    def _make_loop(self) -> None:
        self.policy: object = _current_policy()
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._baseline: Baseline | None = None
        #: Where the thread waits for work, if not in the selector.
        self._parking: Parking | None = None
        self.loop.call_soon(self._take_baseline)

    # Other threads.

    @property
    def usable(self) -> bool:
        """Whether the application still wants loops like this one."""
        return self.policy is _current_policy()

    def lend(self) -> None:
        """Note that somebody took this thread out of the pool."""
        self._resting = False

    def dedicate(self) -> None:
        """Keep the loop as it is after each call, until `end`."""
        self._dedicated = True

    def begin(self, call: CoroutineCall) -> None:
        """Have `call` start. Raises RuntimeError if the loop was closed."""
        loop, parking = self.loop, self._parking
        call.assign(loop, self._finished)
        if parking is None:
            loop.call_soon_threadsafe(self._start, call)
            return
        try:
            parking.call(partial(self._start, call))
        except RuntimeError:
            # The loop may have started it before it was closed.
            if call.take_back():
                raise

    def end(self, frame: CurrentThreadExecutor) -> None:
        """End a dedicated loop as `asyncio.run` ends its own; then wake `frame`."""
        frame.loop = self.loop
        self._dedicated = False
        self.loop.call_soon_threadsafe(self._stop, frame)

    def retire(self) -> None:
        """End the thread, which is idle."""
        self._retired = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    # The loop's thread.

    def _start(self, call: CoroutineCall) -> None:
        if self._ending:
            # Nobody would end it any more. Its thread will notice that the loop is closed.
            return
        self._uses += 1
        self._calls.add(call)
        THREAD.record.loop_frame = call.frame
        if not call.start():
            # Its thread was tired of waiting and took it to another loop.
            self._calls.discard(call)
            if not self._dedicated and (call.loop is not self.loop or not call.finished):
                self._rest()

    def _finished(self, call: CoroutineCall) -> None:
        if self._ending:
            return
        self._calls.discard(call)
        if self._dedicated:
            self._wait_here()
            call.frame.wake()
        else:
            self._settle(call.frame, _SETTLING_TURNS)

    def _settle(self, frame: CurrentThreadExecutor, turns: int) -> None:
        stop_watching()
        baseline = self._baseline
        if baseline is None or not baseline.known:
            self._stop(frame)
        elif baseline.matches():
            THREAD.record.loop_frame = None
            self._forget_places()
            self._wait_here()
            self._rest()
            frame.wake()
        elif turns and not baseline.ready_queue_is_clear():
            self.loop.call_soon(self._settle, frame, turns - 1)
        else:
            self._stop(frame)

    def _forget_places(self) -> None:
        # A function that nobody waits for any more may keep one of them for ever.
        inbox = THREAD.record.inbox
        if inbox is not None:
            inbox.parallel = None

    def _stop(self, frame: CurrentThreadExecutor) -> None:
        THREAD.record.loop_frame = frame
        self._waiting.append(frame)
        self.loop.stop()

    def _take_baseline(self) -> None:
        timer = self.loop.call_later(IDLE_SECONDS, self._look_whether_idle)
        with contextlib.suppress(ValueError):
            self._parking = Parking(self.loop, timer)
        # Without a doorbell: that would be a trace of use.
        THREAD.record.inbox = Inbox(
            self.loop, None if self._parking is None else self._parking.call
        )
        self._baseline = Baseline(self.loop, timer, self._parking)
        self._wait_here()

    def _rest(self) -> None:
        """Go to the pool, once for each time that it was lent."""
        if not self._resting:
            self._resting = True
            self._idle(self)

    def _wait_here(self) -> None:
        if self._parking is not None:
            self._parking.arm()

    def _look_whether_idle(self) -> None:
        if self._uses == self._uses_when_last_looked and self._expire(self):
            self._retired = True
            self.loop.stop()
            return
        self._uses_when_last_looked = self._uses
        timer = self.loop.call_later(IDLE_SECONDS, self._look_whether_idle)
        if self._baseline is not None:
            self._baseline.use_timer(timer)
        if self._parking is not None:
            self._parking.use_timer(timer)
            self._parking.arm()

    def _run(self) -> None:
        while not self._retired:
            self._run_loop()

    def _run_loop(self) -> None:
        error: BaseException = RuntimeError("Event loop stopped before the coroutine was done.")
        try:
            asyncio.set_event_loop(self.loop)
            self.loop.run_forever()
        except BaseException as escaped:
            # A task raised KeyboardInterrupt or SystemExit, which go through a loop.
            error = escaped
        self._ending = True
        if self._parking is not None:
            self._parking.close()
            self._parking = None
        THREAD.record.inbox = None
        for call in self._calls:
            call.set_exception(error)
            self._waiting.append(call.frame)
        self._calls.clear()
        del error
        try:
            shut_down(self.loop)
        finally:
            asyncio.set_event_loop(None)
            self._wake_those_waiting()

    def _wake_those_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        THREAD.record.loop_frame = None
        if not self._retired:
            self._ending = False
            self._make_loop()
            # The application may have stopped a dedicated loop; its block gets another one.
            if not self._dedicated:
                self._rest()
        for frame in waiting:
            frame.wake()


class LoopPool:
    """The idle loop threads of this process."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._idle: deque[LoopThread] = deque()
        self._inherited: list[LoopThread] = []

    def take(self) -> LoopThread:
        """Return a loop thread that nobody uses. Raises RuntimeError where none can be started."""
        while True:
            try:
                idle = self._idle.pop()
            except IndexError:
                name = f"asgiref-loop-{next(self._numbers)}"
                return LoopThread(name, self._idle.append, self._expire)
            if idle.epoch != PROCESS.epoch:
                self._inherited.append(idle)
            elif idle.usable:
                idle.lend()
                return idle
            else:
                idle.retire()

    def _expire(self, idle: LoopThread) -> bool:
        try:
            self._idle.remove(idle)
        except ValueError:
            return False
        return True


def shut_down(loop: asyncio.AbstractEventLoop) -> None:
    """End everything on `loop`, which has stopped, and close it, as `asyncio.run` does."""
    try:
        _cancel_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception while async_to_sync cancelled the tasks left over"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
