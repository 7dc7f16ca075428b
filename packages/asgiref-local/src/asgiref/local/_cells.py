"""Cells: a context variable of a `Local` holds a cell, and the cell holds the value.

A context keeps its variables and their values alive for as long as it exists. A value must die with
its Local, so a cell is a weak reference to the Local, with a callback that drops the value.
The cell also records which code sees the value (`owner`).

Contexts share cells, so a cell never changes between its creation and the death of its Local:
setting an attribute puts a new cell into the context, and deleting one puts `MISSING` there. As a
result, a task's changes stay invisible to its parent and siblings, and no lock is needed.
"""

import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ._owners import is_owner, owner_here, running_loop

__all__ = ["MISSING", "Cell", "LoopCell", "drop_value"]


class Cell(weakref.ref[Any]):
    """The value of one attribute.

    `owner` is the `Owner` of a thread, or None for a value that all code in the context sees.
    """

    __slots__ = ("owner", "value")
    owner: object
    value: Any

    # Weak references are equal if their referents are, but cells of one Local differ.
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    if not TYPE_CHECKING:
        # `weakref.ref.__init__` would parse the arguments again, which takes 2 % of a write.
        __init__ = object.__init__

    def __asgiref_bridge__(self, sender: threading.Thread | None = None) -> "Cell":
        """Return the cell that takes this one's place on the current thread.

        `sender` is the thread that the context comes from; None for a change that propagates back
        to a caller, who then owns it.
        """
        local = self()
        if local is None:
            return MISSING
        if sender is not None:
            if self.owner is None:
                return self
            if not is_owner(self.owner, sender):
                return MISSING  # the sender has a copy of another thread's context
        owner = owner_here()
        if owner is self.owner:
            return self
        moved = Cell(local, drop_value)
        moved.value = self.value
        moved.owner = owner
        return moved


class LoopCell(Cell):
    """A value that async code set in a thread-critical Local. `owner` is the running event loop.

    It crosses the bridge only if it returns to code on the same loop: async code calls synchronous
    code, which calls async code that runs on the first loop.
    """

    __slots__ = ("variable",)
    variable: ContextVar[Cell]

    def __asgiref_bridge__(self, sender: threading.Thread | None = None) -> Cell:
        """Return the cell that takes this one's place on the current thread."""
        loop = running_loop()
        kept = self.variable.get()
        # Synchronous code passes on only values from async code on the same loop. Several
        # top-level calls can use a loop in turn, and must not see each other's values.
        if loop is self.owner or (loop is None and kept.owner is self.owner):
            return self
        return MISSING if kept is self else kept


def drop_value(cell: Cell) -> None:
    """Drop the value of `cell`, whose Local has died."""
    del cell.value


#: Stands for an attribute that was never set, or was deleted: a cell without a Local, whose owner
#: is neither a thread nor a loop.
MISSING = Cell(set[None]())
MISSING.owner = object()
