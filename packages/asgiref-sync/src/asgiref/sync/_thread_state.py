"""What each thread is doing for the bridge, and which process this is.

Only a thread itself writes its state; others read it for reports. A call puts itself there while it
runs and restores what it found, because a thread that is blocked in `async_to_sync` runs other
calls on top of its own.

The invariant: a state counts only in the process that made it. A forked child is another process,
with the state of the thread that forked. Not every fork runs Python's hooks (uWSGI forks in C), so
the two entries to the bridge compare process ids, by `thread_state_at_entry`; all other code uses
`PROCESS.pid`, because asking the system takes 0.2 µs each time.
"""

import asyncio
import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._asyncio_internals import ReusableLoop
    from ._calls import CoroutineCall, FunctionCall


class _Process:
    """This process, as the bridge knows it."""

    __slots__ = ("is_exiting", "pid")

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        #: Whether the interpreter exits and starts no more threads.
        self.is_exiting = False

    def refresh(self) -> int:
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
        "call",
        "coroutine_call",
        "ident",
        "loop_to_reuse",
        "parent_loop",
        "parent_pid",
        "pid",
        "thread",
        "wakeup",
    )

    def __init__(self) -> None:
        PROCESS.refresh()
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
        self.coroutine_call: CoroutineCall | None = None
        #: Locked, except while a wake-up is on its way to this thread, which is blocked.
        self.wakeup: threading.Lock = threading.Lock()
        self.wakeup.acquire()
        #: On a loop thread between two calls: the loop for the next one.
        self.loop_to_reuse: ReusableLoop | None = None


# The operating system reuses thread numbers, so few of these entries belong to dead threads.
_STATES: dict[int, weakref.ref[ThreadState]] = {}
_LOCAL = threading.local()


def thread_state() -> ThreadState:
    """Return the state of the calling thread."""
    try:
        return _LOCAL.state  # type: ignore[no-any-return]
    except AttributeError:
        state = _LOCAL.state = ThreadState()
        return state


def thread_state_at_entry() -> ThreadState:
    """Return the state of the calling thread, a new one if the process has forked."""
    state = thread_state()
    if state.pid != PROCESS.refresh():
        state.start_anew()
    return state


def all_thread_states() -> list[ThreadState]:
    """Return the states of this process's threads that ever used the bridge. Takes no lock."""
    pid = PROCESS.refresh()
    states = [reference() for reference in _STATES.copy().values()]
    return [state for state in states if state is not None and state.pid == pid]
