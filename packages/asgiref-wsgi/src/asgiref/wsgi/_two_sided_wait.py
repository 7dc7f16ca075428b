"""How the request's task and the application's thread wait for each other.

Both directions work alike. One side changes what the other may be waiting for, and then wakes it;
the side that waits looks once more under the lock before it sleeps. So no wake-up is lost.

Waking an event loop from a thread is the most expensive step: a system call, and a fight for the
GIL. Therefore `wake_task` signals only while the task sleeps and has not been woken yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from asgiref.sync import ThreadEvent

#: Seconds that a thread waits for its client before it lends its token to another request. Lending
#: costs more than most waits take.
PATIENCE = 0.002


class TwoSidedWait:
    """The place where one task and one thread wait for each other. Made on the loop's thread.

    `lend` makes the context in which the thread waits for long (see `_workers`).
    """

    __slots__ = ("_condition", "_event", "_lend", "_task_sleeps", "_threads", "lock")

    def __init__(self, lend: Callable[[], AbstractContextManager[None]]) -> None:
        self.lock = threading.Lock()
        self._lend = lend
        self._event: ThreadEvent | None = None  # made by the task when it needs one
        self._task_sleeps = False  # and has not been woken yet
        self._condition: threading.Condition | None = None  # made by the first thread that waits
        self._threads = 0  # that wait: an application may read in several

    # The application's thread

    def wait_in_thread(self, satisfied: Callable[[], bool]) -> None:
        """Block until `satisfied`, which is called under the lock."""
        if self._wait_for(satisfied, PATIENCE):
            return
        # Taking the token back may block, so it happens without the lock: the loop needs that.
        with self._lend():
            self._wait_for(satisfied, None)

    def _wait_for(self, satisfied: Callable[[], bool], timeout: float | None) -> bool:
        with self.lock:
            condition = self._condition = self._condition or threading.Condition(self.lock)
            self._threads += 1
            try:
                return condition.wait_for(satisfied, timeout)
            finally:
                self._threads -= 1

    def wake_task(self) -> None:
        """Wake the task if it sleeps; RuntimeError if its event loop is closed."""
        with self.lock:
            if not self._task_sleeps:
                return
            self._task_sleeps = False
        assert self._event is not None  # a task that sleeps has made it
        self._event.set()

    # The event loop's thread

    async def wait_in_task(self, satisfied: Callable[[], bool]) -> None:
        """Sleep until woken, unless `satisfied`. Wake-ups can be spurious."""
        event = self._event = self._event or ThreadEvent()
        with self.lock:
            if satisfied():
                return
            self._task_sleeps = True
        try:
            await event.wait()
        finally:
            self._task_sleeps = False

    def rouse_task(self) -> None:
        """Wake the task, or keep it from sleeping next."""
        event = self._event = self._event or ThreadEvent()
        event.set()

    # Any thread

    def wake_thread(self) -> None:
        """Have the thread look again."""
        # Locked even if no thread waits: without the GIL, a look at `_threads` alone could miss the
        # thread that is about to wait.
        with self.lock:
            self.notify_threads()

    def notify_threads(self) -> None:
        """Have the threads look again; the caller holds the lock."""
        if self._threads:
            assert self._condition is not None  # a thread that waits has made it
            self._condition.notify_all()
