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
import weakref
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
        "_containers",
        "_get_values",
        "_loop",
        "_own_timer",
        "_registered",
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
            # Their own len() is written in Python, and there are three of them to look at.
            self._containers = (loop._transports.data, loop._asyncgens.data)
            self._registered = loop._selector._fd_to_key
            scheduled = loop._scheduled
        except (AttributeError, KeyError, TypeError, IndexError):
            return
        if len(self._registered) == 1 and scheduled == [self._own_timer]:
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
        ready = self._loop._ready
        return not ready or all(handle is self._self_pipe_reader for handle in ready)

    def matches(self) -> bool:
        """Whether the loop shows no trace of use. On the loop's thread."""
        loop = self._loop
        return (
            loop is not None
            and loop.__dict__.keys() == self._attributes
            and all(map(operator.is_, self._get_values(loop.__dict__), self._values))
            and len(self._registered) == 1
            and not any(self._containers)
            and self._no_timer_is_set(loop._scheduled)
            and self.ready_queue_is_clear()
            and _has_no_other_tasks(loop)
        )

    def _no_timer_is_set(self, scheduled: list[Any]) -> bool:
        if len(scheduled) == 1 and scheduled[0] is self._own_timer:
            return True
        return all(timer is self._own_timer or timer._cancelled for timer in scheduled)


def _has_no_other_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether all tasks of `loop` are done, but for the one that asks (and is about to be).

    `asyncio.all_tasks` looks at every task of the process (until 3.14, which keeps them by
    thread), and takes 5 µs for none. Most often there are no others in the whole process, which
    the two sets of 3.12 and 3.13 show at once.
    """
    current = asyncio.current_task(loop)
    if _TASK_SETS is not None:
        references, eager = _TASK_SETS
        if len(references) + len(eager) <= 1:
            tasks = [*(reference() for reference in tuple(references)), *eager]
            return all(task is None or task is current or task.done() for task in tasks)
    return asyncio.all_tasks(loop) <= {current}


def _task_sets() -> "tuple[set[weakref.ref[asyncio.Task[Any]]], set[asyncio.Task[Any]]] | None":
    """Return asyncio's own sets of scheduled and of eagerly started tasks, where it has both."""
    if not (3, 12) <= sys.version_info[:2] <= (3, 13):
        return None
    references: Any = getattr(getattr(asyncio.tasks, "_scheduled_tasks", None), "data", None)
    eager: Any = getattr(asyncio.tasks, "_eager_tasks", None)
    return None if references is None or eager is None else (references, eager)


_TASK_SETS = _task_sets()
