"""Which context variable holds which attribute of a Local, and which names it refuses.

Each attribute has a context variable of its own, so that setting one costs the same however many
there are, and so that of two calls that share a context, and change different attributes, neither
loses what the other one did. The variable is made when the name is first set, and stays: contexts
have no way to drop a variable.

That must not become a leak where programs make up names (one for each request, say). After
`OWN_VARIABLES` names the remaining ones share a fixed number of variables, and live on shelves:
small dictionaries, copied when they change, from which a deleted name is really gone.

Only the making of a variable takes the lock. Entries of `by_name` are never removed or replaced,
and a name that once went to a shelf goes there always, because by then `by_name` is full for good.
"""

import threading
from contextvars import ContextVar
from typing import NoReturn

from ._cells import MISSING, Cell, Slot

__all__ = ["PYTHONS_OWN", "Attributes"]

#: So many names get a context variable each.
OWN_VARIABLES = 1024
#: So many context variables are shared by all the others.
SHELVES = 1024

#: Names that any object has. A Local answers them like any object and stores nothing under them.
PYTHONS_OWN = frozenset(dir(object)) | {"__module__"}
# Names that an object may have. A Local has none of them and lets none be set.
# (`_data` could be had; in asgiref 3.13 it cannot, and programs may rely on the error.)
_REFUSED = PYTHONS_OWN | {"__dict__", "__slots__", "__weakref__", "_data"}


class Shelf:
    """The cells of several attributes. Never changed once it is in a context."""

    __slots__ = ("cells", "variable")

    def __init__(self, variable: "ContextVar[Shelf]", cells: dict[str, Cell]) -> None:
        self.variable = variable
        self.cells = cells

    def __asgiref_bridge__(self, sender: threading.Thread | None = None) -> "Shelf":
        """Return a shelf of what the cells are on the current thread."""
        moved = {name: cell.__asgiref_bridge__(sender) for name, cell in self.cells.items()}
        present = {name: cell for name, cell in moved.items() if cell is not MISSING}
        return type(self)(self.variable, present)


class LoopShelf(Shelf):
    """A shelf of a thread-critical Local."""

    __slots__ = ()

    def __asgiref_bridge__(self, sender: threading.Thread | None = None) -> Shelf:
        """Stay behind: leave the receiving context with what it has."""
        kept = self.variable.get(self)
        return type(self)(self.variable, {}) if kept is self else kept


class _PlaceOnShelf:
    """A slot that is one name on a shelf."""

    __slots__ = ("_name", "_shelf_type", "_variable")

    def __init__(self, variable: ContextVar[Shelf], name: str, shelf_type: type[Shelf]) -> None:
        self._variable = variable
        self._name = name
        self._shelf_type = shelf_type

    def get(self) -> Cell:
        shelf = self._variable.get(None)
        return MISSING if shelf is None else shelf.cells.get(self._name, MISSING)

    def set(self, cell: Cell, /) -> None:
        shelf = self._variable.get(None)
        cells = {} if shelf is None else shelf.cells.copy()
        if cell is MISSING:
            cells.pop(self._name, None)
        else:
            cells[self._name] = cell
        self._variable.set(self._shelf_type(self._variable, cells))


class Attributes:
    """The slots of one Local, by name. Any thread may use it."""

    __slots__ = ("_label", "_lock", "_shelf_type", "by_name", "shelves")

    def __init__(self, label: str, shelf_type: type[Shelf]) -> None:
        self.by_name: dict[str, ContextVar[Cell]] = {}
        self.shelves: dict[int, ContextVar[Shelf]] = {}
        # Reentrant: the collector may run in between, and in it a finalizer that sets an attribute.
        self._lock = threading.RLock()
        self._label = label
        self._shelf_type = shelf_type

    def find(self, name: str) -> Cell:
        """Return the cell of `name` in the current context, `MISSING` if there is none."""
        variable = self.by_name.get(name)
        if variable is not None:
            return variable.get()
        shared = self.shelves.get(hash(name) % SHELVES)
        shelf = None if shared is None else shared.get(None)
        return MISSING if shelf is None else shelf.cells.get(name, MISSING)

    def claim(self, name: str) -> Slot:
        """Return the slot of `name`, made if need be; AttributeError for a name that is refused."""
        name = self.check(name)
        if name in self.by_name or len(self.by_name) < OWN_VARIABLES:
            variable = ContextVar(f"asgiref.local.Local.{name}", default=MISSING)
            with self._lock:
                if name in self.by_name or len(self.by_name) < OWN_VARIABLES:
                    return self.by_name.setdefault(name, variable)
        number = hash(name) % SHELVES
        shared = self.shelves.get(number)
        if shared is None:
            shelf = ContextVar[Shelf](f"asgiref.local.Local, shelf {number}")
            shared = self.shelves.setdefault(number, shelf)
        return _PlaceOnShelf(shared, name, self._shelf_type)

    def names(self) -> list[str]:
        """Return the names that may have a value in the current context."""
        shelves = [variable.get(None) for variable in self.shelves.copy().values()]
        on_shelves = [name for shelf in shelves if shelf is not None for name in shelf.cells]
        return [*self.by_name.copy(), *on_shelves]

    def check(self, name: str) -> str:
        """Return the name to keep; raise AttributeError if no attribute can have it."""
        if name in _REFUSED:
            raise AttributeError(f"{self._label} cannot have an attribute {name!r}: it is reserved")
        # An object of a subclass of str, with all it refers to, would live as long as the Local.
        return str.__str__(name)

    def refuse_delete(self, name: str) -> NoReturn:
        """Raise AttributeError: the running code sees no attribute of this name to delete."""
        self.check(name)
        raise AttributeError(f"{self._label} has no attribute {name!r} to delete here")
