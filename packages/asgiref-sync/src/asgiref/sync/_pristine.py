"""Whether an event loop is as good as new.

Top-level `async_to_sync` promises a loop that nobody used before, as `asyncio.run` does. Making one
and closing it costs 150 µs and more, looking whether the last one shows any trace of its use costs
a few. A trace is: a task that is not done, a timer that is not cancelled, a callback that waits for
its turn, a registered file descriptor, an open transport, an asynchronous generator that was not
exhausted, a default executor, anything that was set on the loop object.

Only asyncio's own selector loop can be looked at this way. Of any other loop (uvloop, a subclass
with state of its own) nothing is claimed: `Baseline.matches` is false, and a new one is made.

The ready queue need not be empty: the reader of the self-pipe stands there whenever another thread
woke the loop, and demanding that it does not made no loop ever reusable.
"""

import asyncio
import operator
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Baseline"]

# Attributes that change while a loop runs without being a trace of anything.
_VOLATILE = frozenset(
    {"_clock_resolution", "_current_handle", "_stopping", "_thread_id", "_timer_cancelled_count"}
)


class Baseline:
    """What a loop looked like before its first use. Made on the loop's thread, while it runs."""

    __slots__ = (
        "_attributes",
        "_get_values",
        "_loop",
        "_own_timer",
        "_self_pipe_reader",
        "_values",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, own_timer: asyncio.TimerHandle) -> None:
        self._own_timer = own_timer
        self._loop: Any = None
        if type(loop) is asyncio.SelectorEventLoop:
            self._take(loop)

    def _take(self, loop: Any) -> None:
        try:
            self._self_pipe_reader = loop._selector.get_key(loop._ssock).data[0]
            registered, scheduled = loop._selector.get_map(), loop._scheduled
        except (AttributeError, KeyError, TypeError, IndexError):
            return
        if len(registered) == 1 and all(timer is self._own_timer for timer in scheduled):
            self._attributes = set(loop.__dict__)
            # Taken and compared by functions written in C, since this is done after every call.
            self._get_values: Callable[[Any], tuple[Any, ...]] = operator.itemgetter(
                *sorted(self._attributes - _VOLATILE)
            )
            self._values = self._get_values(loop.__dict__)
            self._loop = loop

    def use_timer(self, own_timer: asyncio.TimerHandle) -> None:
        """Tell that the owner's timer is another one now."""
        self._own_timer = own_timer

    @property
    def known(self) -> bool:
        """Whether anything can be said of this loop."""
        return self._loop is not None

    def ready_queue_is_clear(self) -> bool:
        """Whether no callback waits for its turn."""
        return all(handle is self._self_pipe_reader for handle in self._loop._ready)

    def matches(self) -> bool:
        """Whether the loop shows no trace of use. On the loop's thread."""
        loop = self._loop
        return (
            loop is not None
            and loop.__dict__.keys() == self._attributes
            and all(map(operator.is_, self._get_values(loop.__dict__), self._values))
            and len(loop._selector.get_map()) == 1
            and not loop._transports
            and not loop._asyncgens
            and all(timer is self._own_timer or timer._cancelled for timer in loop._scheduled)
            and self.ready_queue_is_clear()
            and _has_no_tasks(loop)
        )


def _has_no_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether all tasks of `loop` are done.

    `asyncio.all_tasks` looks at every task of the process (until 3.14, which keeps them by
    thread). Most often there is none at all, which the two sets of 3.12 and 3.13 show at once.
    """
    if _TASK_SETS is not None and not any(map(len, _TASK_SETS)):
        return True
    return not asyncio.all_tasks(loop)


def _task_sets() -> tuple[Any, ...] | None:
    if not (3, 12) <= sys.version_info[:2] <= (3, 13):
        return None
    scheduled = getattr(asyncio.tasks, "_scheduled_tasks", None)
    eager = getattr(asyncio.tasks, "_eager_tasks", None)
    return None if scheduled is None or eager is None else (scheduled, eager)


_TASK_SETS = _task_sets()
