"""The accessors of a thread-critical Local: values that stay where they were set.

Synchronous code of a thread has a dictionary of its own; the thread is lent to other users, so the
bridge has it cleared between two of them. Async code has the context's cells, and of those only the
ones that the running event loop made, so that a copy of the context shows nothing elsewhere.
"""

from collections.abc import Callable
from typing import Any

from ._accessors import Accessors
from ._attributes import PYTHONS_OWN, Attributes
from ._cells import MISSING, Lifetime, LoopCell, Slot, forget
from ._owners import Store, note_store, running_loop

__all__ = ["staying_accessors"]


def staying_accessors(attributes: Attributes, fallback: Callable[[str], Any]) -> Accessors:
    """Make the accessors of one thread-critical Local, whose async part is `attributes`."""
    store = Store()
    return Accessors(
        get=_make_get(attributes, store, fallback),
        set=_make_set(attributes, store),
        delete=_make_delete(attributes, store),
        dir=_make_dir(attributes, store),
    )


def _make_get(
    attributes: Attributes, store: Store, fallback: Callable[[str], Any]
) -> Callable[[str], Any]:
    by_name = attributes.by_name
    shelves = attributes.shelves
    here = store.here

    def get(name: str, /) -> Any:
        loop = running_loop()
        try:
            if loop is None:
                return here.values[name]
            cell = by_name[name].get()
            if cell.owner is loop:
                return cell.value
        except (KeyError, AttributeError):
            pass
        if shelves and loop is not None and name not in by_name:
            cell = attributes.find(name)
            if cell.owner is loop:
                return cell.value
        return fallback(name)

    return get


def _make_set(attributes: Attributes, store: Store) -> Callable[[str, Any], None]:
    by_name = attributes.by_name
    here = store.here
    # Nothing but this function refers to it, and nothing but the Local to this function.
    lifetime = Lifetime()

    def set(name: str, value: Any, /) -> None:
        loop = running_loop()
        if loop is None:
            set_in_thread(name, value)
            return
        try:
            slot: Slot = by_name[name]
        except KeyError:
            slot = attributes.claim(name)
        cell = LoopCell(lifetime, forget)
        cell.value = value
        cell.owner = loop
        cell.slot = slot
        slot.set(cell)

    def set_in_thread(name: str, value: Any) -> None:
        try:
            values = here.values
        except AttributeError:
            values = here.values = {}
            note_store(store)
        if name not in values:
            name = attributes.check(name)
        values[name] = value

    return set


def _make_delete(attributes: Attributes, store: Store) -> Callable[[str], None]:
    def delete(name: str, /) -> None:
        loop = running_loop()
        if loop is None:
            if name not in getattr(store.here, "values", ()):
                attributes.refuse_delete(name)
            del store.here.values[name]
        else:
            if attributes.find(name).owner is not loop:
                attributes.refuse_delete(name)
            attributes.claim(name).set(MISSING)

    return delete


def _make_dir(attributes: Attributes, store: Store) -> Callable[[], list[str]]:
    def dir() -> list[str]:
        loop = running_loop()
        if loop is None:
            names = list(getattr(store.here, "values", ()))
        else:
            names = [name for name in attributes.names() if attributes.find(name).owner is loop]
        return sorted(PYTHONS_OWN.union(names))

    return dir
