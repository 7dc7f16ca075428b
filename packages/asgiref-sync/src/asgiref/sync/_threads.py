"""What the bridge remembers of a thread, and of the process.

Each thread has one record, and only that thread reads or writes it (`THREAD` is a `threading.local`
with declared fields, so a typing error is found by the type checker and an unset field has a
default). A bridged call puts itself there while it runs and puts back what it found: a thread that
idles in `async_to_sync` runs other calls on top of its own, and must find its own again.

A forked child has only the thread that forked. Everything that other threads would have done stays
undone, and the loops that it inherited are the parent's (closing one would tear registrations out
of an epoll object that both share). So nothing is cleaned up in the child: the epoch counts up,
every object that a thread was needed for compares its own epoch and counts as gone, and pools start
anew.
"""

import contextvars
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._calls import Call
    from ._completions import Completions
    from ._frames import CurrentThreadExecutor

__all__ = ["PROCESS", "THREAD", "start_daemon"]


class _ThreadRecord(threading.local):
    #: The call from async code that this thread is running now.
    call: "Call | None" = None
    #: The queue of finished calls for the loop that runs in this thread.
    completions: "Completions | None" = None
    #: The frame that waits for the loop of this thread, if the loop was made for one.
    loop_frame: "CurrentThreadExecutor | None" = None


class _ProcessRecord:
    __slots__ = ("epoch",)

    def __init__(self) -> None:
        self.epoch = 0


THREAD = _ThreadRecord()
PROCESS = _ProcessRecord()


def _after_fork_in_child() -> None:
    PROCESS.epoch += 1
    THREAD.call = None
    THREAD.completions = None
    THREAD.loop_frame = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def start_daemon(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread whose context is empty, and return it.

    Daemon, because an idle worker must never hold the process (`_exit` waits for those that are not
    idle). Empty, because newer Pythons can be told to start a thread with a copy of its starter's
    context: a pooled thread would keep the values of one request alive for all its life.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    contextvars.Context().run(thread.start)
    return thread
