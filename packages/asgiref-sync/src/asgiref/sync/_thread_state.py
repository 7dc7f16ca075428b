"""The state that the bridge keeps for each thread and for the process.

Only a thread itself writes its state; other threads read it for reports. A call records itself
there while it runs and then restores the earlier values, because a thread that is blocked in
`async_to_sync` runs other calls on top of its own.

The invariant: a state is valid only in the process that created it. A forked child inherits the
state of the thread that forked. Not every fork runs Python's hooks (uWSGI forks in C), so both
entries to the bridge call `thread_state_at_entry`, which compares process ids. All other code uses
`PROCESS.pid`, because `os.getpid` takes 0.2 µs.
"""

import asyncio
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._asyncio_internals import ReusableLoop
    from ._calls import CoroutineCall, FunctionCall


class _Process:
    """The bridge's record of this process."""

    __slots__ = ("is_exiting", "pid")

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        #: Whether the interpreter is exiting and no more threads can be started.
        self.is_exiting = False

    def refresh(self) -> int:
        """Update the process id from the system, and return it."""
        pid = os.getpid()
        if pid != self.pid:
            self.pid, self.is_exiting = pid, False
        return pid


PROCESS = _Process()


class ThreadState:
    """The state of one thread: the calls that it runs and waits for."""

    __slots__ = (
        "__weakref__",
        "call",
        "coroutine_call",
        "ident",
        "loop_to_reuse",
        "parent_loop",
        "parent_pid",
        "pid",
        "task_context",
        "thread",
        "wakeup",
    )

    def __init__(self) -> None:
        PROCESS.refresh()
        self.start_anew()
        _STATES[self.ident] = weakref.ref(self)

    def start_anew(self) -> None:
        """Reset everything: the thread is new, or the only one in a forked child."""
        self.pid: int = PROCESS.pid
        self.ident: int = threading.get_ident()
        self.thread: threading.Thread = threading.current_thread()
        #: The call from async code that this thread runs.
        self.call: FunctionCall | None = None
        #: The loop of that call, on which `async_to_sync` runs coroutines. Applications can assign
        #: it as ``SyncToAsync.threadlocal.main_event_loop``.
        self.parent_loop: asyncio.AbstractEventLoop | None = None
        self.parent_pid: int | None = None
        #: Where `main_wrap` records its task while an integration's `thread_handler` encloses it.
        self.task_context: list[Any] | None = None
        #: The innermost call to `async_to_sync` in which this thread is blocked.
        self.coroutine_call: CoroutineCall | None = None
        #: Locked, unless a wake-up of the blocked thread is pending.
        self.wakeup: threading.Lock = threading.Lock()
        self.wakeup.acquire()
        #: The loop that a loop thread keeps for its next call.
        self.loop_to_reuse: ReusableLoop | None = None

    @property
    def runs_unblocked_call(self) -> bool:
        """Whether a call from async code is running here, and is not blocked in `async_to_sync`.

        Any thread may read this.
        """
        call = self.call
        return call is not None and call.blocked_in is None


# The operating system reuses thread numbers, so few of these entries belong to dead threads.
_STATES: dict[int, weakref.ref[ThreadState]] = {}
_local = threading.local()


def thread_state() -> ThreadState:
    """Return the state of the calling thread."""
    global _local
    if type(_local) is not threading.local:
        # gevent or eventlet has patched the threads since the last call. All greenlets would share
        # one state in the old object.
        _local = threading.local()
    try:
        return _local.state  # type: ignore[no-any-return]
    except AttributeError:
        state = _local.state = ThreadState()
        return state


def thread_state_at_entry() -> ThreadState:
    """Return the state of the calling thread, after resetting it if the process was forked."""
    state = thread_state()
    if state.pid != PROCESS.refresh():
        state.start_anew()
    return state


def all_thread_states() -> list[ThreadState]:
    """Return the states of all threads of this process that have used the bridge."""
    pid = PROCESS.refresh()
    states = [reference() for reference in _STATES.copy().values()]
    return [state for state in states if state is not None and state.pid == pid]
