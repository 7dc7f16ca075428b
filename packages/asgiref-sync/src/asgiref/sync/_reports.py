"""Who waits for whom: what each bridge thread is doing, told while it does it.

A report is made from outside and at any moment, so it takes no lock and stops nothing: it reads the
records of other threads, which change meanwhile. It can show a call that has just ended; it never
shows one that was not there. What it says of a wait that lasts (the only kind one asks about) is
right.
"""

import os.path
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from ._coroutines import CoroutineCall
from ._markers import describe
from ._places import PLACES
from ._threads import PROCESS, ThreadRecord, stacks_of_threads

__all__ = ["ThreadReport", "report_threads"]

_HERE = os.path.dirname(__file__)


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """What one thread does for the bridge; ``str()`` of it is one line."""

    #: The thread's name.
    name: str
    #: The thread's number, as `threading.get_ident` gives it.
    ident: int
    #: The function that async code called here by `sync_to_async`, if one runs.
    runs: str | None
    #: The coroutine function that this thread waits for in `async_to_sync`, if it does, with the
    #: place in the source where the coroutine stands.
    waits_for: str | None
    #: The place in the source where the thread itself stands.
    stands_at: str
    #: How many calls wait for this thread.
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
    """Tell what each thread that the bridge uses is doing, and for what it waits.

    Threads that do nothing for the bridge and have nothing queued are left out. May be called on
    any thread, also while everything else hangs: from a signal handler, a debugger, or a timer
    thread. It takes no lock.

    Args:
        file: where the reports are also printed, a line each.

    Returns:
        One report a thread, in the order of the threads' numbers.

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
    stacks = stacks_of_threads()
    queues = {worker.thread.ident: worker.queued for worker in PLACES.workers()}
    records = {record.ident: record for record in PROCESS.threads()}
    for ident in sorted(records.keys() | {ident for ident in queues if ident is not None}):
        record, stack = records.get(ident), stacks.get(ident)
        queued = queues.get(ident, 0)
        if record is not None and record.frame is not None:
            queued += record.frame.queued
        if stack is not None and (queued or _is_busy(record)):
            yield _report(record, names.get(ident, "unknown thread"), ident, stack, queued)


def _is_busy(record: ThreadRecord | None) -> bool:
    return record is not None and (record.call is not None or record.frame is not None)


def _report(
    record: ThreadRecord | None, name: str, ident: int, stack: types.FrameType, queued: int
) -> ThreadReport:
    call = None if record is None else record.call
    awaited = None if record is None else _awaited(record)
    return ThreadReport(
        name=name,
        ident=ident,
        runs=None if call is None else describe(call.function),
        waits_for=None if awaited is None else _describe_wait(awaited),
        stands_at=_place(stack if awaited is None else _caller_of_bridge(stack)),
        queued=queued,
    )


def _awaited(record: ThreadRecord) -> CoroutineCall | None:
    """Return what the thread waits for, or is about to wait for."""
    if record.call is not None and (below := record.call.below):
        return below[-1]
    awaited = None if record.frame is None else record.frame.waits_for
    return awaited if isinstance(awaited, CoroutineCall) else None


def _caller_of_bridge(stack: types.FrameType) -> types.FrameType:
    """Return the innermost frame that called into the bridge, or the innermost of all."""
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
    return f"{name} ({call.state.value})" if place is None else f"{name} at {place}"


def _coroutine_place(coroutine: Any) -> str | None:
    """Return where the innermost coroutine that `coroutine` awaits stands."""
    place = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            place = _place(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return place


def _place(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
