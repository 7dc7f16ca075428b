"""Reports on the bridge's threads, a log of slow waits, and deadlock detection.

A report can be made at any moment, so making one takes no lock. It reads the states of other
threads while they change, so it can show a call that has just finished. A report of a long wait is
exact.
"""

import asyncio
import concurrent.futures
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

from ._asyncio_internals import future_of_coroutine, futures_awaited_by
from ._blocking import CHECK_SECONDS
from ._callables import describe
from ._calls import CoroutineCall, FunctionCall
from ._thread_pool import SubmittedCall, all_workers
from ._thread_state import all_thread_states

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
# coroutine there calls thread-sensitive code, which is queued on the shared thread. Another one:
# the code waits for the result of `asyncio.run_coroutine_threadsafe`, whose coroutine does that.
#
# The call's context does not prove a deadlock: a new thread's context is empty, and a task that the
# code started and does not wait for has a copy of the code's context. The shared thread's stack
# does: it is in a `Thread.join` or in a wait for a future, without a timeout, which leads, directly
# or through more such waits, to the loop's own thread or to a task here that awaits the call. No
# other kind of wait proves a deadlock.

#: Seconds until a loop first checks whether the busy thread waits for it. Each later interval is
#: twice as long, up to the maximum, so that many queued calls do not slow the loop down.
_DEADLOCK_SECONDS = 0.2
_MAX_DEADLOCK_SECONDS = 3.2


def watch_for_deadlock(call: FunctionCall, thread: threading.Thread) -> None:
    """Watch `call`, which is about to be queued on the busy `thread`. Fail it if it can never run.

    Call this on the thread of the call's loop.
    """
    _check_later(call, thread, _DEADLOCK_SECONDS)


def _check_later(call: FunctionCall, thread: threading.Thread, seconds: float) -> None:
    # A weak reference, so that the timer does not keep the call and its arguments alive.
    reference = weakref.ref(call)
    call.timer = call.loop.call_later(seconds, _check, reference, thread, seconds)


#: For the future that a task awaits in a watched call: the call, and the thread that must run it.
#: No lock: each access is one atomic operation of the dictionary.
_WATCHED = weakref.WeakKeyDictionary[
    "asyncio.Future[None]", tuple["weakref.ref[FunctionCall]", threading.Thread]
]()


def _check(
    reference: "weakref.ref[FunctionCall]", thread: threading.Thread, seconds: float
) -> None:
    call = reference()
    if call is None or not call.is_queued:
        return
    if call.waiter is not None:
        _WATCHED[call.waiter] = reference, thread
    awaited = _awaited_instead_of(call, thread)
    if awaited is None:
        seconds = min(2 * seconds, _MAX_DEADLOCK_SECONDS)
        _check_later(call, thread, max(seconds, _DEADLOCK_SECONDS))
    elif seconds:
        # A callback that the loop has not called yet may end the wait: that of a failed task in a
        # group, for example. Check again after those callbacks.
        _check_later(call, thread, 0)
    else:
        call.discard(_deadlock(call, thread, awaited))


def _deadlock(call: FunctionCall, thread: threading.Thread, awaited: str) -> RuntimeError:
    states = [state for state in all_thread_states() if state.thread is thread]
    occupant = states[0].call if states else None
    runs = "a call" if occupant is None else describe(occupant.function)
    name = describe(call.function)
    return RuntimeError(
        f"{name} would deadlock: it must run on thread {thread.name}, where {runs} "
        f"waits without a timeout for {awaited}, whose event loop waits for {name}"
    )


def _awaited_instead_of(call: FunctionCall, thread: threading.Thread) -> str | None:
    """Describe what `thread` waits for that cannot end before `call` has run, if that is provable.

    Call this on the thread of the call's loop.
    """
    stacks, here = _stacks_of_threads(), threading.current_thread()
    pending, seen = [thread.ident], set[int | None]()
    while pending:
        ident = pending.pop()
        if ident is None or ident in seen:
            continue
        seen.add(ident)
        for awaited in _awaited_by(stacks.get(ident)):
            if isinstance(awaited, threading.Thread):
                pending.append(awaited.ident)
            elif (source := future_of_coroutine(awaited)) is None:
                pending.append(_runner_of(awaited, stacks))
            elif source.get_loop() is call.loop and _is_stuck(source, call, thread):
                return f"a coroutine on thread {here.name}"
        if here.ident in pending:
            return f"thread {here.name}"
    return None


def _is_stuck(future: "asyncio.Future[Any]", call: FunctionCall, thread: threading.Thread) -> bool:
    """Whether `future` cannot be done before `thread` has run `call`.

    All tasks and futures that this examines belong to the current thread's loop, so none of them
    changes meanwhile.
    """
    pending, seen, leads_to_call = [future], set["asyncio.Future[Any]"](), False
    while pending:
        future = pending.pop()
        if future in seen:
            continue
        seen.add(future)
        watched = _WATCHED.get(future)
        queued = None if watched is None or watched[1] is not thread else watched[0]()
        if queued is not None and queued.is_queued:
            leads_to_call = leads_to_call or queued is call
            continue
        awaited = futures_awaited_by(future)
        if not awaited or any(each.get_loop() is not call.loop for each in awaited):
            return False
        pending += awaited
    return leads_to_call


def _awaited_by(stack: types.FrameType | None) -> "list[threading.Thread | Future[Any]]":
    """Return the threads and futures that must all finish before the thread with `stack` continues.

    An empty list means that the thread does not wait, or that its wait may end in another way.
    """
    frame = stack
    while frame is not None and frame.f_globals.get("__name__") in _WAITING_MODULES:
        if frame.f_code in _WAITING_CODES:
            variables = frame.f_locals
            if variables.get("timeout") is not None:
                return []
            if frame.f_code is not concurrent.futures.wait.__code__:
                # `result` clears this variable when it returns.
                return [] if variables.get("self") is None else [variables["self"]]
            futures = list(variables.get("not_done", ()))
            waits_for_all = variables["return_when"] == concurrent.futures.ALL_COMPLETED
            return futures if waits_for_all or len(futures) == 1 else []
        frame = frame.f_back
    return []


_WAITING_MODULES = ("threading", "concurrent.futures._base")
_FUTURE: Any = Future
_WAITING_CODES = (
    threading.Thread.join.__code__,
    _FUTURE.result.__code__,
    _FUTURE.exception.__code__,
    concurrent.futures.wait.__code__,
)


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
