"""Waits that last: logged once each, with who waits for whom. Off unless a time is set.

A thread that waits for a coroutine looks up now and then in any case (see `_frames`) and notices
then how long it has waited. A coroutine that waits for a function has nobody who looks, so while a
time is set each such call carries a timer of its loop; while none is set, a call pays one
comparison.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from ._calls import Call
from ._coroutines import CoroutineCall
from ._frames import CHECK_SECONDS
from ._markers import describe
from ._reports import report_threads

__all__ = ["SLOW_WAITS", "log_slow_waits"]

logger = logging.getLogger("asgiref.sync")


class _SlowWaits:
    """The setting, and what follows from it."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None

    def watch_thread(self, call: CoroutineCall) -> tuple[Callable[[], None], float]:
        """Return what a thread that waits for `call` shall check, and how often, in seconds."""
        if self.seconds is None:
            return call.check, CHECK_SECONDS
        limit = self.seconds
        began = time.monotonic()
        logged = False

        def check() -> None:
            nonlocal logged
            call.check()
            if not logged and time.monotonic() - began >= limit:
                logged = True
                _log(f"a thread has waited for {describe(call.function)}", limit)

        return check, min(CHECK_SECONDS, limit)

    def watch_task(self, call: Call) -> asyncio.TimerHandle:
        """Start the timer of a task that is about to wait for `call`. Only while a time is set."""
        assert self.seconds is not None
        what = f"a task has waited for {describe(call.function)}"
        return call.loop.call_later(self.seconds, _log, what, self.seconds)


SLOW_WAITS = _SlowWaits()


def _log(what: str, seconds: float) -> None:
    lines = "\n".join(f"  {report}" for report in report_threads())
    logger.warning("%s for %s s; the threads of the bridge:\n%s", what, seconds, lines)


def log_slow_waits(seconds: float | None) -> None:
    """Log, once for each, waits in the bridge that last longer than `seconds`; None: no more.

    It concerns waits that begin afterwards, of tasks for functions and of threads for coroutines.
    The warning goes to the logger ``asgiref.sync`` and holds what `report_threads` returns at that
    moment. May be called on any thread.

    Args:
        seconds: how long a wait may be without being logged.

    Raises:
        ValueError: `seconds` is not positive.

    >>> log_slow_waits(5)
    >>> log_slow_waits(None)
    """
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be a positive number or None, not {seconds!r}")
    SLOW_WAITS.seconds = seconds
