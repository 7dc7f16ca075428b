"""The live instances by scope id, the least recently used first.

That order is what makes an eviction cheap: the next one to go is the first, found and removed
without looking at any other. An instance is moved to the end whenever its scope is used. An
ordinary dict has such an order too, but finding its first entry steps over every entry that was
ever deleted in front of it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

from ._instance import ApplicationInstance, adopted


class InstanceTable(OrderedDict[Hashable, ApplicationInstance]):
    """An ordered dict of scope ids that makes records of what is put in, and has them watched."""

    def __init__(
        self,
        watch: Callable[[ApplicationInstance], None],
        entries: Mapping[Hashable, object] | None = None,
    ) -> None:
        super().__init__()
        self._watch = watch
        for scope_id, details in (entries or {}).items():
            self[scope_id] = details  # type: ignore[assignment] # the setter adopts it

    def __setitem__(self, scope_id: Hashable, details: ApplicationInstance) -> None:
        record = adopted(scope_id, details)
        super().__setitem__(scope_id, record)
        self.move_to_end(scope_id)
        self._watch(record)

    def add(self, record: ApplicationInstance) -> None:
        """Put in a new record of our own."""
        super().__setitem__(record.scope_id, record)
        self._watch(record)

    def oldest(self) -> Hashable:
        """The scope id to evict next. Raises ValueError if there is none."""
        for scope_id in self:
            return scope_id
        raise ValueError("There is no application instance to delete.")
