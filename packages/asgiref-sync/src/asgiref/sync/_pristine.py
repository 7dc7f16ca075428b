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
from collections.abc import Callable, Collection
from typing import Any

from ._parking import Parking, no_other_timer

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
        "_parking",
        "_registered",
        "_self_pipe_reader",
        "_values",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        own_timer: asyncio.TimerHandle,
        parking: Parking | None,
    ) -> None:
        self._own_timer = own_timer
        self._parking = parking
        self._loop: Any = None
        self._containers: tuple[Collection[object], Collection[object]] = ((), ())
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
            self._attributes = len(loop.__dict__)
            # Taken and compared by functions written in C, since this is done after every call.
            # None of them missing, and not more of them than there were: the same ones.
            self._get_values: Callable[[Any], tuple[Any, ...]] = operator.itemgetter(
                *sorted(set(loop.__dict__) - _VOLATILE)
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
        if not ready:
            return True
        own = None if self._parking is None else self._parking.handle
        return all(handle is self._self_pipe_reader or handle is own for handle in ready)

    def matches(self) -> bool:
        """Whether the loop shows no trace of use. On the loop's thread."""
        loop = self._loop
        transports, generators = self._containers
        return (
            loop is not None
            and not loop._stopping
            and len(self._registered) == 1
            and not transports
            and not generators
            and no_other_timer(loop._scheduled, self._own_timer)
            and self.ready_queue_is_clear()
            and self._has_its_attributes(loop.__dict__)
            and _has_no_other_tasks(loop)
        )

    def _has_its_attributes(self, attributes: dict[str, Any]) -> bool:
        try:
            # Compares by identity first: what is equal to what asyncio had there will do as well.
            same = self._get_values(attributes) == self._values
        except KeyError:
            return False
        return same and len(attributes) == self._attributes


def _has_no_other_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether all tasks of `loop` are done, but for the one that asks (and is about to be).

    `asyncio.all_tasks` looks at every task of the process (until 3.14, which keeps them by
    thread), and takes 5 µs for none. Most often there is no other in the whole process, which the
    length of asyncio's own collections shows at once.
    """
    current = asyncio.current_task(loop)
    if _TASKS and sum(map(len, _TASKS)) == (0 if current is None else 1):
        return True
    return asyncio.all_tasks(loop) <= {current}


def _collections_of_tasks() -> "list[Collection[object]]":
    """Return asyncio's own collections of the tasks that are not done, if they are as expected."""
    if sys.version_info >= (3, 14):
        return []
    names = ["_scheduled_tasks"] if sys.version_info >= (3, 12) else ["_all_tasks"]
    # What a WeakSet holds; its own len() is written in Python.
    found: list[Any] = [getattr(getattr(asyncio.tasks, name, None), "data", None) for name in names]
    if sys.version_info >= (3, 12):
        found.append(getattr(asyncio.tasks, "_eager_tasks", None))
    return [] if None in found else found


_TASKS = _collections_of_tasks()
