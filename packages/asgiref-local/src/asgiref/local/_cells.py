"""Cells: what a context variable of a Local holds.

A context keeps every variable that was ever set in it, and the variable's value, for as long as it
lives, whether or not anybody can still name the variable. A value must not live longer than its
Local, so what is put into a context is not the value but a cell, which can be emptied:

* A cell is a weak reference to the `Lifetime` that its Local alone keeps, and it carries the value.
  When the Local dies, the interpreter walks the list of weak references that every object has
  anyhow, and calls `forget` on each cell. When the context dies first, the cell leaves that list.
  No register of cells, no lock, no reference cycle; one object per value.
* Contexts share cells. So a cell never changes between its making and its Local's death: setting an
  attribute makes a new cell, deleting one puts `MISSING` in its place. That is what keeps a task's
  changes from its parent and its siblings, and what makes locks unnecessary.

What did not work. The data in the Local, found by a weak key in the context: a value that refers to
its context (a task does) is then kept alive by the Local, which commonly lives for ever; this way
round it is a cycle that the collector finds. A separate weak reference per cell, in a set with
`discard` as its callback: 0.6 µs for a cell and setting it, where this takes 0.4.
A value that refers to its own Local does live until the contexts that hold it die.
"""

import threading
import weakref
from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING, Any, Protocol

from ._owners import ALWAYS_OWNED, HERE, Owner, has_owner, new_owner, running_loop

__all__ = ["MISSING", "Cell", "Lifetime", "LoopCell", "Slot", "forget", "owner_here"]


class Lifetime:
    """Lives as long as its Local does, and is referred to by nothing else."""

    __slots__ = ("__weakref__",)


class Cell(weakref.ref[Lifetime]):
    """The value of one attribute, and whose it is.

    `owner` is None for a value that everybody sees who has the context, else the thread's `Owner`.
    """

    __slots__ = ("owner", "value")
    owner: Owner | AbstractEventLoop | None
    value: Any

    # Two weak references are equal when their referents are; two cells of one Local are not.
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    if not TYPE_CHECKING:
        # A weak reference's own would take its arguments apart a second time: 15 of 550 ns.
        __init__ = object.__init__

    def __asgiref_bridge__(self, sender: threading.Thread | None = None) -> "Cell":
        """Return what this cell is on the current thread, to which the bridge moves it.

        `sender` is the thread that a context comes from; None for a change that returns to a
        caller, and counts as the caller's own.
        """
        if sender is not None:
            if self.owner is None:
                return self
            if not has_owner(sender, self.owner):
                return MISSING  # the sender merely had a copy of the owner's context
        owner = owner_here()
        if owner is self.owner:
            return self
        lifetime = self()
        if lifetime is None:
            return MISSING
        moved = Cell(lifetime, forget)
        moved.value = self.value
        moved.owner = owner
        return moved


class Slot(Protocol):
    """A place for one attribute's cell in the current context, as a context variable is."""

    def get(self) -> Cell: ...
    def set(self, cell: Cell, /) -> object: ...


class LoopCell(Cell):
    """The value of a thread-critical attribute in async code; `owner` is the event loop.

    An event loop runs in one thread at a time, and has to be asked for anyway, to tell async code
    from synchronous.
    """

    __slots__ = ("slot",)
    slot: Slot

    def __asgiref_bridge__(self, sender: threading.Thread | None = None) -> Cell:
        """Stay behind: leave the receiving context with what it has."""
        kept = self.slot.get()
        return MISSING if kept is self else kept


def forget(cell: Cell) -> None:
    """Empty `cell`: its Local died."""
    del cell.value


def owner_here() -> Owner | None:
    """Return the owner of what the running code sets: None for async code."""
    if not ALWAYS_OWNED and running_loop() is not None:
        return None
    try:
        owner: Owner = HERE.owner
    except AttributeError:
        owner = new_owner()
    return owner


#: Stands where nothing is set, or where it was deleted. Its owner is no thread's, its Local dead.
MISSING = Cell(Lifetime())
MISSING.owner = Owner()
