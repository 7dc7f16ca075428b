"""Context variables that follow a call to another thread and back (PEP 567).

A function runs in a copy of its caller's context. Afterwards the variables that it *changed* are
set in the caller's context. A variable has changed if it no longer holds the same object as in the
snapshot taken before the call. (Comparing with the caller's current values would undo other code's
changes when two calls share a context, and ``==`` would run user code.) A variable that a call
has reset keeps the caller's value, because PEP 567 offers no way to unset one.

If a value's type defines ``__asgiref_bridge__(self, sender)``, the receiving thread calls that
method inside the receiving context, and its result replaces the value. `sender` is the thread that
the context comes from, or None on the way back. The package's README documents this protocol.
"""

import gc
import sys
import threading
from contextvars import Context, ContextVar, copy_context
from typing import Any

#: Whether new threads inherit contexts. If so, every value must be adapted in both directions.
_THREADS_INHERIT_CONTEXT = bool(getattr(sys.flags, "thread_inherit_context", 0))

#: A thread has this attribute if its contexts can hold values that belong to the thread.
_OWNER = "__asgiref_owner__"

_MISSING = object()
# Below this number of variables, comparing each one is cheaper than calling the collector.
_MANY_VARIABLES = 6


def sending_thread_of(thread: threading.Thread) -> threading.Thread | None:
    """Return `thread` if values that leave its event loop must be adapted, else None."""
    return thread if _THREADS_INHERIT_CONTEXT or _OWNER in thread.__dict__ else None


def adapt_values(sending_thread: threading.Thread) -> Context:
    """Adapt each value of the current context to this thread. Return a snapshot of the result."""
    before = copy_context()
    after: Context | None = before
    for variable, value in before.items():
        adapted = _adapt(value, sending_thread)
        if adapted is not value:
            variable.set(adapted)
            after = None
    return copy_context() if after is None else after


def propagate_changes(
    after: Context, before: Context, leave_out: "ContextVar[Any] | None" = None
) -> None:
    """Set in the current context the variables that differ between `before` and `after`."""
    if len(after) >= _MANY_VARIABLES and _tree_of(after) is _tree_of(before):
        return
    for variable, value in after.items():
        if value is not before.get(variable, _MISSING) and variable is not leave_out:
            variable.set(_adapt(value, None))


def _adapt(value: object, sending_thread: threading.Thread | None) -> object:
    kind = type(value)
    if type(kind) is type:
        bridge = getattr(kind, "__asgiref_bridge__", None)
    else:  # a metaclass may provide any name
        found = [vars(base) for base in kind.__mro__ if "__asgiref_bridge__" in vars(base)]
        bridge = found[0]["__asgiref_bridge__"] if found else None
    return value if bridge is None else bridge(value, sending_thread)


def _tree_of(context: Context) -> object:
    """Return the immutable tree that holds the variables of `context`.

    Two contexts with the same tree have the same variables. With 30 variables this check takes
    0.4 µs; comparing each one takes 4. `Context` offers no other way; its ``==`` compares values by
    equality.
    """
    referents = gc.get_referents(context)
    return referents[-1] if referents else context
