"""What the bridge remembers of a thread, and of the process.

Each thread has one record, and only that thread writes it; others read it only to report what the
thread does. A bridged call puts itself there while it runs and puts back what it found: a thread
that idles in `async_to_sync` runs other calls on top of its own, and must find its own again. A
record dies with its thread.

A forked child has only the thread that forked. Everything that other threads would have done stays
undone, and the loops that it inherited are the parent's (closing one would tear registrations out
of an epoll object that both share). So nothing is cleaned up in the child: the epoch counts up,
every object that a thread was needed for compares its own epoch and counts as gone, and pools start
anew.
"""

import contextvars
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from ._calls import Call
    from ._deadlocks import QueueWatch
    from ._frames import CurrentThreadExecutor
    from ._inbox import Inbox

__all__ = ["PROCESS", "THREAD", "ThreadRecord", "stacks_of_threads", "start_daemon"]


class ThreadRecord:
    """What one thread is doing for the bridge. Only that thread writes it."""

    __slots__ = (
        "__weakref__",
        "attributes",
        "call",
        "frame",
        "ident",
        "inbox",
        "loop_frame",
        "queue_watch",
        "thread",
    )

    def __init__(self) -> None:
        self.ident: int = threading.get_ident()
        self.thread: threading.Thread = threading.current_thread()
        #: What others keep on the thread object.
        self.attributes: dict[str, Any] = self.thread.__dict__
        self.clear()

    def clear(self) -> None:
        #: The call from async code that this thread is running now.
        self.call: Call | None = None
        #: The innermost frame in which this thread waits for a coroutine.
        self.frame: CurrentThreadExecutor | None = None
        #: What other threads bring to the loop that ran last in this thread.
        self.inbox: Inbox | None = None
        #: The frame that waits for the loop of this thread, if the loop was made for one.
        self.loop_frame: CurrentThreadExecutor | None = None
        #: What looks after calls of this thread's loop that wait for busy workers.
        self.queue_watch: weakref.ref[QueueWatch] | None = None


class _ProcessRecord:
    __slots__ = ("_records", "epoch", "inboxes")

    def __init__(self) -> None:
        self.epoch = 0
        #: What other threads bring to each loop. Touched on the loops' threads.
        self.inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox]
        self.inboxes = weakref.WeakKeyDictionary()
        self._records: dict[int, weakref.ref[ThreadRecord]] = {}

    def add(self, record: ThreadRecord) -> None:
        # A thread's number is used again after its end, so the entries of dead ones are few.
        self._records[record.ident] = weakref.ref(record)

    def threads(self) -> list[ThreadRecord]:
        """Return the records of the living threads that ever used the bridge. Any thread."""
        records = [reference() for reference in tuple(self._records.values())]
        return [record for record in records if record is not None]

    def start_anew(self) -> None:
        self.epoch += 1
        self._records = {}
        self.inboxes = weakref.WeakKeyDictionary()


class _Thread(threading.local):
    #: The record of the thread that asks.
    record: ThreadRecord

    def __init__(self) -> None:
        self.record = ThreadRecord()
        PROCESS.add(self.record)


PROCESS = _ProcessRecord()
THREAD = _Thread()


def _after_fork_in_child() -> None:
    record = THREAD.record
    PROCESS.start_anew()
    record.clear()
    PROCESS.add(record)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def stacks_of_threads() -> "dict[int, types.FrameType]":
    """Return the innermost frame of each thread, by the thread's number."""
    return sys._current_frames()  # pyright: ignore[reportPrivateUsage]


def start_daemon(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread whose context is empty, and return it.

    Daemon, because an idle worker must never hold the process (`_exit` waits for those that are not
    idle). Empty, because newer Pythons can be told to start a thread with a copy of its starter's
    context: a pooled thread would keep the values of one request alive for all its life.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    contextvars.Context().run(thread.start)
    return thread
