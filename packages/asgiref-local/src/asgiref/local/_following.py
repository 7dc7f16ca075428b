"""The accessors of an ordinary Local: values in the context, which the bridge carries along.

A read is the hot path of the whole package. It sees a cell that has no owner, or whose owner is the
running thread. The two conditions are written out where a function would be shorter; a call costs
half of what the read does. `HERE.owner` is missing in a thread that never set a value in plain
synchronous code: it can own no cell, so the AttributeError means the same as "not mine".
"""

from collections.abc import Callable
from typing import Any

from ._accessors import Accessors
from ._attributes import PYTHONS_OWN, Attributes
from ._cells import MISSING, Cell, Lifetime, Slot, forget
from ._owners import ALWAYS_OWNED, HERE, new_owner, running_loop

__all__ = ["following_accessors"]


def following_accessors(attributes: Attributes, fallback: Callable[[str], Any]) -> Accessors:
    """Make the accessors of one Local, whose names and variables are `attributes`."""
    return Accessors(
        get=_make_get(attributes, fallback),
        set=_make_set(attributes),
        delete=_make_delete(attributes),
        dir=_make_dir(attributes),
    )


def _make_get(attributes: Attributes, fallback: Callable[[str], Any]) -> Callable[[str], Any]:
    by_name = attributes.by_name
    shelves = attributes.shelves

    def get(name: str, /) -> Any:
        variable = by_name.get(name)
        if variable is not None:
            cell = variable.get()
            owner = cell.owner
            try:
                if owner is None or owner is HERE.owner:
                    return cell.value
            except AttributeError:
                pass
        elif shelves:
            cell = attributes.find(name)
            if _is_visible(cell):
                return cell.value
        return fallback(name)

    return get


def _make_set(attributes: Attributes) -> Callable[[str, Any], None]:
    by_name = attributes.by_name
    # Nothing but this function refers to it, and nothing but the Local to this function.
    lifetime = Lifetime()

    def set(name: str, value: Any, /) -> None:
        try:
            slot: Slot = by_name[name]
        except KeyError:
            slot = attributes.claim(name)
        cell = Cell(lifetime, forget)
        cell.value = value
        if ALWAYS_OWNED or running_loop() is None:
            try:
                cell.owner = HERE.owner
            except AttributeError:
                cell.owner = new_owner()
        else:
            cell.owner = None
        slot.set(cell)

    return set


def _make_delete(attributes: Attributes) -> Callable[[str], None]:
    def delete(name: str, /) -> None:
        if not _is_visible(attributes.find(name)):
            attributes.refuse_delete(name)
        attributes.claim(name).set(MISSING)

    return delete


def _make_dir(attributes: Attributes) -> Callable[[], list[str]]:
    def dir() -> list[str]:
        names = [name for name in attributes.names() if _is_visible(attributes.find(name))]
        return sorted(PYTHONS_OWN.union(names))

    return dir


def _is_visible(cell: Cell) -> bool:
    """Whether the running code may see the value of `cell`."""
    return cell.owner is None or cell.owner is getattr(HERE, "owner", None)
