"""Lets the request's task and the application's thread wait for each other.

Input and output use the same protocol: one side changes the state that the other side may be
waiting for, and then wakes it. A waiting thread checks its condition under the lock before it
sleeps, and a wake-up that finds the task awake is kept for its next wait. So no wake-up is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from asgiref.sync import ThreadEvent

from ._loop_end import CHECK_SECONDS, has_ended

#: Seconds that a thread waits for its client before it lends its token to another request. Lending
#: takes more time than most waits.
LEND_AFTER = 0.002


#: Returns the context manager inside which a thread waits for a task on this loop.
Lend: TypeAlias = Callable[[asyncio.AbstractEventLoop], AbstractContextManager[None]]


class TwoSidedWait:
    """Lets one task and one thread wait for each other. Create it on the loop's thread.

    The thread blocks for long periods only inside the context manager that `lend` returns (see
    `_workers`).
    """

    __slots__ = (
        "_condition",
        "_event",
        "_is_asleep",
        "_is_woken",
        "_lend",
        "_loop",
        "_loop_thread",
        "_threads",
        "lock",
    )

    def __init__(self, lend: Lend) -> None:
        self.lock = threading.Lock()
        self._lend = lend
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._event: ThreadEvent | None = None  # created by the task's first wait
        self._is_asleep = False  # the task waits, and nothing has woken it yet
        self._is_woken = False  # the task was woken while it was awake
        self._condition: threading.Condition | None = None  # created by the first thread that waits
        self._threads = 0  # number of waiting threads; an application may read on several

    # The application's thread

    def wait_in_thread(self, satisfied: Callable[[], bool]) -> bool:
        """Block until `satisfied` returns true. It is called under the lock.

        Return False if the wait could not end, because the task's loop has ended or waits here.
        """
        if self._wait_for(satisfied, LEND_AFTER):
            return True
        if threading.get_ident() == self._loop_thread:
            return False  # the bridge runs functions there if no thread can start any more
        # Taking the token back may block, so release the lock first: the loop needs it.
        with self._lend(self._loop):
            while not self._wait_for(satisfied, CHECK_SECONDS):
                if has_ended(self._loop):
                    return False
        return True

    def _wait_for(self, satisfied: Callable[[], bool], timeout: float) -> bool:
        with self.lock:
            condition = self._condition = self._condition or threading.Condition(self.lock)
            self._threads += 1
            try:
                return condition.wait_for(satisfied, timeout)
            finally:
                self._threads -= 1

    # The event loop's thread

    async def wait_in_task(self) -> bool:
        """Wait for `wake_task`; return False if it was called since the last wait.

        Wake-ups can be spurious; re-check your condition after each one.
        """
        event = self._event = self._event or ThreadEvent()
        with self.lock:
            if self._is_woken:
                self._is_woken = False
                return False
            self._is_asleep = True
        try:
            await event.wait()
        finally:
            self._is_asleep = False
        return True

    # Any thread

    def wake_task(self) -> None:
        """Wake the task, now or at its next wait; raises RuntimeError if its loop is closed."""
        with self.lock:
            if not self._is_asleep:
                self._is_woken = True
                return
            # Waking a loop costs a system call and contention for the GIL, so do it once per sleep.
            self._is_asleep = False
        assert self._event is not None  # a task that sleeps has created it
        self._event.set()

    def wake_threads(self) -> bool:
        """Make waiting threads re-check their conditions; return whether any thread is waiting."""
        # Lock even if no thread waits: without the GIL, reading `_threads` alone could miss a
        # thread that is about to wait.
        with self.lock:
            if not self._threads:
                return False
            assert self._condition is not None  # a thread that waits has created it
            self._condition.notify_all()
            return True
