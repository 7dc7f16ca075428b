"""The queues whose instance has ended, as long as somebody holds one and may put into it.

Every instance that ends leaves a queue here, and nearly always nobody holds it: an eviction must
not cost more for that. A ``weakref.WeakValueDictionary`` costs 3 µs for each queue that comes and
dies, a third of an eviction. So the references here are plain, a dead one stays in the dict until
it is asked for or swept, and a sweep comes only when the dict has doubled since the last one.
"""

import weakref
from collections.abc import Hashable

from ._queue import InputQueue


class DormantQueues:
    """Queues by scope id, referred to weakly."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, weakref.ref[InputQueue]] = {}
        self._sweep_at = 64

    def add(self, queue: InputQueue) -> None:
        if len(self._queues) >= self._sweep_at:
            self._queues = {
                scope_id: reference
                for scope_id, reference in self._queues.items()
                if reference() is not None
            }
            self._sweep_at = 64 + 2 * len(self._queues)
        self._queues[queue.scope_id] = weakref.ref(queue)

    def take(self, scope_id: Hashable) -> InputQueue | None:
        """The queue of a scope, which is not dormant from now on; None if nobody holds one."""
        reference = self._queues.pop(scope_id, None)
        return None if reference is None else reference()
