"""`Local`, and the two subclasses that implement it.

Each attribute has its own context variable. The cost of setting an attribute therefore does not
depend on how many there are, and if two calls share a context and change different attributes, both
keep their changes.

The only structure that threads share is the dictionary of variables. It grows by `dict.setdefault`,
which is atomic with or without the GIL, and nothing is ever removed. There is no lock, so no thread
can hold one while another thread forks.
"""

import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from ._cells import MISSING, Cell, LoopCell, drop_value
from ._owners import ALWAYS_OWNED, HERE, make_owner, running_loop

__all__ = ["Local"]

#: Names that every object has. A Local treats them as any object does and stores none of them.
_PYTHONS_OWN = frozenset(dir(object)) | {"__module__"}
#: Names that a Local does not store. asgiref 3.13 refuses `_data`, and programs may rely on that.
_RESERVED = _PYTHONS_OWN | {"__dict__", "__slots__", "__weakref__", "_data"}


class Local:
    """A namespace whose attributes follow the running code: a `threading.local` for asyncio, too.

    Set, read and delete attributes. Values set in a thread without a running event loop belong to
    that thread. Values set in async code belong to that code: awaited coroutines and tasks started
    from it see them, and so does all code that runs in a copy of its context, such as
    `asyncio.to_thread`. A task's changes are invisible to its parent and its siblings.
    ``sync_to_async`` and ``async_to_sync`` of asgiref-sync copy values and propagate changes back.

    With ``thread_critical=True``, values stay where they were set: synchronous code sees the values
    that its thread set, and async code sees those set in its context while the same event loop ran.
    Use it for objects that must not be used from another thread.

    Any number of threads and tasks may use one Local at the same time; no call blocks, and no value
    is lost. A value dies with its Local, or with the last context (or thread) that it was set in.

    Args:
        thread_critical: keep values on their thread.

    Raises:
        TypeError: for a subclass.
        AttributeError: on reading an attribute that is not set, and on setting or deleting
            ``__dict__``, ``__slots__``, ``__weakref__``, ``_data`` or an attribute that every
            Python object has, such as ``__class__``. Any other name can be used.

    >>> import asyncio
    >>> request = Local()
    >>> async def handle(number):
    ...     request.number = number
    ...     await asyncio.sleep(0)
    ...     return await asyncio.to_thread(lambda: request.number)
    >>> async def handle_three():
    ...     return await asyncio.gather(handle(1), handle(2), handle(3))
    >>> asyncio.run(handle_three())
    [1, 2, 3]
    >>> hasattr(request, "number")
    False
    """

    __slots__ = ("__weakref__", "_label", "_variables")
    _label: str
    _variables: dict[str, ContextVar[Cell]]

    def __new__(cls, thread_critical: bool = False) -> "Local":
        if cls is not Local:
            raise TypeError(
                f"{cls.__qualname__}: asgiref.local.Local cannot be subclassed; "
                "keep a Local in an attribute instead"
            )
        local = object.__new__(_ThreadCriticalLocal if thread_critical else _DefaultLocal)
        options = "(thread_critical=True)" if thread_critical else ""
        object.__setattr__(local, "_label", f"<asgiref.local.Local{options} at {id(local):#x}>")
        object.__setattr__(local, "_variables", {})
        if thread_critical:
            object.__setattr__(local, "_here", threading.local())
        return local

    if TYPE_CHECKING:

        def __getattr__(self, name: str, /) -> Any: ...
        def __setattr__(self, name: str, value: Any, /) -> None: ...
        def __delattr__(self, name: str, /) -> None: ...

    def __repr__(self) -> str:
        return _label_of(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or pickled: its values belong to running code")


# Programs may use any name for an attribute, so the special methods below cannot read a Local's own
# state as attributes. They call these functions, which read the slots directly.
_label_of: Callable[[Local], str] = vars(Local)["_label"].__get__
_variables_of: Callable[[Local], dict[str, ContextVar[Cell]]] = vars(Local)["_variables"].__get__


class _DefaultLocal(Local):
    """A Local whose values follow the code."""

    __slots__ = ()

    def __getattribute__(self, name: str, /) -> Any:
        try:
            cell = _variables_of(self)[name].get()
            # `_is_visible`, inlined: a call would add a third to the time of a read.
            if cell.owner is None or cell.owner is HERE.owner:
                return cell.value
        except (KeyError, AttributeError):
            pass  # the name was never set anywhere, or this thread owns nothing
        if name in _PYTHONS_OWN:
            return object.__getattribute__(self, name)
        raise _not_set(self, name)

    def __setattr__(self, name: str, value: Any, /) -> None:
        try:
            variable = _variables_of(self)[name]
        except KeyError:
            variable = _new_variable(self, name)
        cell = Cell(self, drop_value)
        cell.value = value
        # `owner_here`, inlined: a call would add a tenth to the time of a write.
        if running_loop() is None or ALWAYS_OWNED:
            try:
                cell.owner = HERE.owner
            except AttributeError:
                cell.owner = make_owner()
        else:
            cell.owner = None
        variable.set(cell)

    def __delattr__(self, name: str, /) -> None:
        variable = _variables_of(self).get(name)
        if variable is None or not _is_visible(variable.get()):
            raise _not_set(self, name)
        variable.set(MISSING)

    def __dir__(self) -> list[str]:
        variables = _variables_of(self).copy()
        return _with_pythons_own(n for n, v in variables.items() if _is_visible(v.get()))


class _ThreadCriticalLocal(Local):
    """A Local whose values stay on their thread."""

    __slots__ = ("_here",)
    #: `values` is the dictionary of this thread's synchronous code, once it has set a value.
    _here: threading.local

    def __getattribute__(self, name: str, /) -> Any:
        loop = running_loop()
        try:
            if loop is None:
                return _here_of(self).values[name]
            cell = _variables_of(self)[name].get()
            if cell.owner is loop:
                return cell.value
        except (KeyError, AttributeError):
            pass  # the name was never set anywhere, or this thread has set nothing
        if name in _PYTHONS_OWN:
            return object.__getattribute__(self, name)
        raise _not_set(self, name)

    def __setattr__(self, name: str, value: Any, /) -> None:
        loop = running_loop()
        if loop is None:
            try:
                values = _here_of(self).values
            except AttributeError:
                values = _values_here(self)
            if name not in values:
                name = _storable(self, name)
            values[name] = value
            return
        try:
            variable = _variables_of(self)[name]
        except KeyError:
            variable = _new_variable(self, name)
        cell = LoopCell(self, drop_value)
        cell.value = value
        cell.owner = loop
        cell.variable = variable
        variable.set(cell)

    def __delattr__(self, name: str, /) -> None:
        loop = running_loop()
        if loop is None:
            try:
                del _values_here(self)[name]
            except KeyError:
                raise _not_set(self, name) from None
            return
        variable = _variables_of(self).get(name)
        if variable is None or variable.get().owner is not loop:
            raise _not_set(self, name)
        variable.set(MISSING)

    def __dir__(self) -> list[str]:
        loop = running_loop()
        if loop is None:
            return _with_pythons_own(_values_here(self))
        variables = _variables_of(self).copy()
        return _with_pythons_own(n for n, v in variables.items() if v.get().owner is loop)


_here_of: Callable[[Local], Any] = vars(_ThreadCriticalLocal)["_here"].__get__


def _values_here(local: Local) -> dict[str, Any]:
    """Return the values that this thread's synchronous code has set in a thread-critical Local."""
    here = _here_of(local)
    try:
        values: dict[str, Any] = here.values
    except AttributeError:
        values = here.__dict__.setdefault("values", {})
    return values


def _is_visible(cell: Cell) -> bool:
    """Return whether the running code sees the value of `cell`, in a default Local."""
    return cell.owner is None or cell.owner is getattr(HERE, "owner", None)


def _new_variable(local: Local, name: str) -> ContextVar[Cell]:
    """Return the variable of `name`. Create it unless another thread has just done so."""
    name = _storable(local, name)
    variable = ContextVar(f"asgiref.local.Local.{name}", default=MISSING)
    return _variables_of(local).setdefault(name, variable)


def _storable(local: Local, name: str) -> str:
    """Return `name` as a plain string; raise AttributeError if it is reserved."""
    # An instance of a subclass of str, and all that it refers to, would live as long as the Local.
    name = str.__str__(name)
    if name in _RESERVED:
        message = f"{local!r} cannot have an attribute {name!r}: the name is reserved"
        raise AttributeError(message, name=name, obj=local)
    return name


def _not_set(local: Local, name: str) -> AttributeError:
    # Keep this cheap: many programs read attributes that may be unset. Passing `name` and `obj` to
    # the constructor takes 0.2 µs more.
    error = AttributeError(f"{_label_of(local)} has no attribute {name!r} in this task or thread")
    error.name = name
    error.obj = local
    return error


def _with_pythons_own(names: Iterable[str]) -> list[str]:
    return sorted(_PYTHONS_OWN.union(names))
