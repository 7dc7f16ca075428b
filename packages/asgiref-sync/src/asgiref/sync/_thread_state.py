"""What each thread is doing for the bridge, and which process this is.

Each thread has one state, and only that thread writes it; others read it for reports. A call puts
itself there while it runs and restores what it found, for a thread that is blocked in
`async_to_sync` runs other calls on top of its own. A forked child is another process with the
state of the thread that forked, so a state counts only in the process that it was made in.

Every entry to the bridge calls `thread_state`, which compares process ids, for not every fork runs
Python's hooks (uWSGI forks in C). All other code compares with `PROCESS.pid`: asking the system
takes 0.3 µs each time.
"""

import asyncio
import os
import sys
import threading
import types
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._blocking import CurrentThreadExecutor
    from ._calls import CoroutineCall, FunctionCall

__all__ = [
    "PROCESS",
    "ThreadState",
    "all_thread_states",
    "stacks_of_threads",
    "state_of_worker",
    "thread_state",
]


class _Process:
    """This process, as the bridge knows it."""

    __slots__ = ("is_exiting", "pid")

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        #: Whether the interpreter exits and starts no more threads.
        self.is_exiting = False

    def check(self) -> int:
        """Ask the system which process this is; return its id."""
        pid = os.getpid()
        if pid != self.pid:
            self.pid, self.is_exiting = pid, False
        return pid


PROCESS = _Process()


class ThreadState:
    """What one thread is doing for the bridge."""

    __slots__ = (
        "__weakref__",
        "blocked",
        "call",
        "coroutine_call",
        "ident",
        "parent_loop",
        "parent_pid",
        "pid",
        "thread",
        "wakeup",
    )

    def __init__(self) -> None:
        PROCESS.check()
        self.start_anew()
        _STATES[self.ident] = weakref.ref(self)

    def start_anew(self) -> None:
        """Forget everything: the thread is new, or alone in a forked child."""
        self.pid: int = PROCESS.pid
        self.ident: int = threading.get_ident()
        self.thread: threading.Thread = threading.current_thread()
        #: The call from async code that this thread runs.
        self.call: FunctionCall | None = None
        #: The loop of that call, where `async_to_sync` runs coroutines. Applications can change it
        #: as ``SyncToAsync.threadlocal.main_event_loop``.
        self.parent_loop: asyncio.AbstractEventLoop | None = None
        self.parent_pid: int | None = None
        #: The innermost call of `async_to_sync` in which this thread is blocked.
        self.blocked: CurrentThreadExecutor | None = None
        #: The coroutine that this thread waits for there.
        self.coroutine_call: CoroutineCall | None = None
        #: Locked, except while a wake-up is on its way to this thread, which is blocked.
        self.wakeup: threading.Lock = threading.Lock()
        self.wakeup.acquire()


class _Local(threading.local):
    state: ThreadState

    def __init__(self) -> None:
        self.state = ThreadState()


# A thread's number is used again after its end, so there are few entries of dead threads.
_STATES: dict[int, weakref.ref[ThreadState]] = {}
_LOCAL = _Local()


def thread_state() -> ThreadState:
    """Return the state of the calling thread; at each entry to the bridge."""
    state = _LOCAL.state
    if state.pid != PROCESS.check():
        state.start_anew()
    return state


def state_of_worker() -> ThreadState:
    """Return the state of the calling thread, which entered the bridge before."""
    return _LOCAL.state


def all_thread_states() -> list[ThreadState]:
    """Return the states of this process's threads that ever used the bridge. Takes no lock."""
    pid = PROCESS.check()
    states = [reference() for reference in _STATES.copy().values()]
    return [state for state in states if state is not None and state.pid == pid]


def stacks_of_threads() -> "dict[int, types.FrameType]":
    """Return the innermost frame of each thread, by the thread's number."""
    return sys._current_frames()  # pyright: ignore[reportPrivateUsage]
