"""Reports on the bridge's threads, a log of slow waits, and deadlock detection.

A report can be made at any moment, so making one takes no lock. It reads the states of other
threads while they change, so it can show a call that has just finished. A report of a long wait is
exact.
"""

import asyncio
import logging
import os.path
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple, TextIO

from ._blocking import CHECK_SECONDS
from ._callables import describe
from ._calls import CoroutineCall, FunctionCall
from ._thread_pool import SubmittedCall, WorkerThread, all_workers
from ._thread_state import all_thread_states, thread_state

logger = logging.getLogger("asgiref.sync")

_HERE = os.path.dirname(__file__)


# Not a dataclass: importing `dataclasses` takes half as long as importing this package.
class ThreadReport(NamedTuple):
    """The calls that one thread runs, waits for and has queued. Its ``str()`` is one line."""

    #: The thread's name.
    name: str
    #: The thread's number, as returned by `threading.get_ident`.
    ident: int
    #: The function that `sync_to_async` runs on this thread, if any.
    runs: str | None
    #: The coroutine function that this thread waits for in `async_to_sync`, if any, and the
    #: coroutine's current line in the source.
    waits_for: str | None
    #: The thread's own current line in the source.
    stands_at: str
    #: The number of calls that wait for this thread.
    queued: int

    def __str__(self) -> str:
        parts = [f"{self.name} ({self.ident})"]
        parts.append(f"runs {self.runs}" if self.runs else "runs no call")
        if self.waits_for:
            parts.append(f"waits for {self.waits_for}")
        parts.append(f"stands at {self.stands_at}")
        parts.append(f"{self.queued} queued")
        return ", ".join(parts)


def report_threads(*, file: TextIO | None = None) -> tuple[ThreadReport, ...]:
    """Return a report of the calls that each thread of the bridge runs and waits for.

    The report omits threads that run no call and have none queued. Any thread may call this
    function, for example in a signal handler, a debugger or a timer, even while all other threads
    hang. It takes no lock.

    Args:
        file: a text file to which the reports are also printed, one line each.

    Returns:
        One report for each thread, in the order of the threads' numbers.

    >>> report_threads()
    ()
    """
    reports = tuple(_reports())
    if file is not None:
        for report in reports:
            print(report, file=file)
    return reports


def _reports() -> Iterator[ThreadReport]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = _stacks_of_threads()
    queues = {worker.thread.ident: worker.queued for worker in all_workers()}
    states = {state.ident: state for state in all_thread_states()}
    for ident in sorted(states.keys() | {ident for ident in queues if ident is not None}):
        state, stack = states.get(ident), stacks.get(ident)
        call = None if state is None else state.call
        awaited = None if state is None else state.coroutine_call
        queued = queues.get(ident, 0) + (0 if awaited is None else awaited.executor.queued)
        if stack is not None and (queued or call is not None or awaited is not None):
            yield ThreadReport(
                name=names.get(ident, "unknown thread"),
                ident=ident,
                runs=None if call is None else describe(call.function),
                waits_for=None if awaited is None else _describe_wait(awaited),
                stands_at=_place(stack if awaited is None else _caller_of_bridge(stack)),
                queued=queued,
            )


def _stacks_of_threads() -> dict[int, types.FrameType]:
    """Return the innermost frame of each thread, keyed by thread number."""
    return sys._current_frames()  # pyright: ignore[reportPrivateUsage]


def _caller_of_bridge(stack: types.FrameType) -> types.FrameType:
    """Return the innermost frame that called into the bridge, or `stack` if none did."""
    frame: types.FrameType | None = stack
    while frame is not None and not _is_bridge(frame):
        frame = frame.f_back
    while frame is not None and _is_bridge(frame):
        frame = frame.f_back
    return stack if frame is None else frame


def _is_bridge(frame: types.FrameType) -> bool:
    return os.path.dirname(frame.f_code.co_filename) == _HERE


def _describe_wait(call: CoroutineCall) -> str:
    place = _coroutine_place(call.coroutine)
    name = describe(call.function)
    return f"{name} ({call.state.label})" if place is None else f"{name} at {place}"


def _coroutine_place(coroutine: Any) -> str | None:
    """Return the current line of the innermost coroutine that `coroutine` awaits."""
    place = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            place = _place(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return place


def _place(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


# Slow waits. A blocked thread checks its wait regularly anyway. A task cannot check itself, so it
# starts a timer, but only while `log_slow_waits` is on.


#: The setting of `log_slow_waits`.
_slow_wait_seconds: float | None = None


def log_slow_waits(seconds: float | None) -> None:
    """Log each wait in the bridge that exceeds `seconds`, once per wait. None stops the logging.

    The setting affects waits that start after this call: tasks that wait for functions, and threads
    that wait for coroutines. The warning goes to the logger ``asgiref.sync`` and contains the
    result of `report_threads` at that moment. Any thread may call this function.

    Args:
        seconds: the longest wait that is not logged.

    Raises:
        ValueError: `seconds` is not positive.

    >>> log_slow_waits(5)
    >>> log_slow_waits(None)
    """
    global _slow_wait_seconds
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be a positive number or None, not {seconds!r}")
    _slow_wait_seconds = seconds


def progress_check(call: CoroutineCall) -> tuple[Callable[[], bool], float]:
    """Return the check for a thread that waits for `call`, and its interval in seconds."""
    limit = _slow_wait_seconds
    if limit is None:
        return call.check_progress, CHECK_SECONDS
    start = time.monotonic()
    logged = False

    def check() -> bool:
        nonlocal logged
        if not logged and time.monotonic() - start >= limit:
            logged = True
            _log(f"a thread has waited for {describe(call.function)}", limit)
        return call.check_progress()

    return check, min(CHECK_SECONDS, limit)


def log_if_slow(call: FunctionCall) -> asyncio.TimerHandle | None:
    """Start a timer that logs `call` if it is slow, unless `log_slow_waits` is off.

    Call this on the loop's thread.
    """
    seconds = _slow_wait_seconds
    if seconds is None:
        return None
    wait = f"a task has waited for {describe(call.function)}"
    return call.loop.call_later(seconds, _log, wait, seconds)


def _log(wait: str, seconds: float) -> None:
    lines = "\n".join(f"  {report}" for report in report_threads())
    logger.warning("%s for %s s; the threads of the bridge:\n%s", wait, seconds, lines)


# Deadlocks. A real example: synchronous code on the shared thread starts a thread that calls
# `asyncio.run`, and joins it (or waits for the result of an executor that does the same). The
# coroutine there calls thread-sensitive code, which is queued on the shared thread. The call's
# context does not show the deadlock (a new thread's context is empty), but the shared thread's
# stack does: it is in a `Thread.join` or `Future.result` without a timeout, which leads, directly
# or through more such waits, to the loop's own thread. No other kind of wait proves a deadlock.

#: Seconds until a loop checks whether the busy worker waits for it, and between such checks.
_DEADLOCK_SECONDS = 0.2


def watch_for_deadlock(call: FunctionCall, worker: WorkerThread) -> None:
    """Watch `call`, which is about to be queued on the busy `worker`. Fail it if it can never run.

    Call this on the thread of the call's loop. No thread waits for the main thread to end, so calls
    from a loop there need no watching.
    """
    if thread_state().thread is not threading.main_thread():
        _check_later(call, worker)


def _check_later(call: FunctionCall, worker: WorkerThread) -> None:
    # A weak reference, so that the timer does not keep the call and its arguments alive.
    reference = weakref.ref(call)
    call.timer = call.loop.call_later(_DEADLOCK_SECONDS, _check, reference, worker)


def _check(reference: "weakref.ref[FunctionCall]", worker: WorkerThread) -> None:
    call = reference()
    if call is None or not call.is_queued:
        return
    here = threading.current_thread()
    if _waits_for(worker.thread, here):
        call.discard(_deadlock(call, worker, here))
    else:
        _check_later(call, worker)


def _deadlock(call: FunctionCall, worker: WorkerThread, here: threading.Thread) -> RuntimeError:
    occupant = None if worker.state is None else worker.state.call
    runs = "a call" if occupant is None else describe(occupant.function)
    name = describe(call.function)
    return RuntimeError(
        f"{name} would deadlock: it must run on thread {worker.thread.name}, where {runs} "
        f"waits without a timeout for thread {here.name}, whose event loop waits for {name}"
    )


def _waits_for(thread: threading.Thread, target: threading.Thread) -> bool:
    """Whether `thread` waits for a thread or result that depends on code on `target`."""
    stacks = _stacks_of_threads()
    seen: set[int] = set()
    ident = thread.ident
    while ident is not None and ident not in seen:
        seen.add(ident)
        ident = _awaited_thread(ident, stacks)
        if ident == target.ident:
            return True
    return False


def _awaited_thread(waiting: int, stacks: dict[int, types.FrameType]) -> int | None:
    """Return the number of the thread that `waiting` joins or whose result it awaits."""
    frame = stacks.get(waiting)
    while frame is not None and frame.f_globals.get("__name__") in _WAITING_MODULES:
        awaited = frame.f_locals.get("self")
        has_timeout = frame.f_locals.get("timeout") is not None
        if frame.f_code is threading.Thread.join.__code__:
            if has_timeout or not isinstance(awaited, threading.Thread):
                return None
            return awaited.ident
        if frame.f_code in _CODES_OF_FUTURE:
            return None if has_timeout else _runner_of(awaited, stacks)
        frame = frame.f_back
    return None


_WAITING_MODULES = ("threading", "concurrent.futures._base")
_FUTURE: Any = Future
_CODES_OF_FUTURE = (_FUTURE.result.__code__, _FUTURE.exception.__code__)


def _runner_of(future: object, stacks: dict[int, types.FrameType]) -> int | None:
    """Return the number of the thread that runs the work item of `future`, if any."""
    for ident, stack in stacks.items():
        frame: types.FrameType | None = stack
        while frame is not None:
            if (
                frame.f_code.co_name == "run"
                and frame.f_globals.get("__name__") in _RUNNING_MODULES
            ):
                item = frame.f_locals.get("self")
                if getattr(item, "future", None) is future:
                    return ident
            frame = frame.f_back
    return None


# The modules of `ThreadPoolExecutor`'s work items and of this package's `SubmittedCall`.
_RUNNING_MODULES = ("concurrent.futures.thread", SubmittedCall.__module__)
