"""Context variables that follow a call to another thread and back (PEP 567).

The rules:

* A function runs in a copy of the context it was called from. When it is done, what it *changed*
  is set in the caller's context, and nothing else. Changed means: not the same object as in the
  snapshot that was taken when the call was made. Comparing with the caller's present value instead
  would undo what other code did to it meanwhile, when two calls share a context.
* Values are compared by identity. `==` would run code of the values' classes on a thread that they
  do not expect.
* A variable that was set cannot be unset from outside (PEP 567 has tokens only), so a variable that
  a call has reset keeps the caller's value. (A deletion in a `Local` is a change of a value.)

A value can ask to be told that it moves. When its type defines
``__asgiref_bridge__(self, sender)``, the receiving thread calls it, inside the receiving context,
and uses what it returns in the value's place. `sender` is the thread that a context comes from, or
None for a change that returns to the caller. Values are asked

* when synchronous code calls asynchronous code: all of them;
* when a call returns, in either direction: those that changed;
* when asynchronous code calls synchronous code: all of them, but only if the loop's thread says by
  ``__asgiref_owner__`` in its ``__dict__`` that its contexts can hold values which belong to a
  thread (code set them before it called `asyncio.run`), or if ``sys.flags.thread_inherit_context``
  makes any new thread start with a copy of its starter's context. Otherwise what async code set
  moves nowhere but where the bridge takes it, and the look at each value is saved.

This is the whole of what the bridge and `asgiref.local.Local` know of each other.
"""

import gc
import sys
import threading
from contextvars import Context, ContextVar, copy_context
from typing import Any

from ._threads import ThreadRecord

__all__ = ["ask_values", "bring_back", "sender_of_values"]

#: New threads inherit contexts: a value must be asked in both directions (see above).
ASK_EVERY_VALUE = bool(getattr(sys.flags, "thread_inherit_context", 0))

_OWNER = "__asgiref_owner__"

_MISSING = object()
# Below this number of variables, looking at each is cheaper than asking the collector.
_MANY_VARIABLES = 6


def sender_of_values(thread: ThreadRecord) -> threading.Thread | None:
    """Return the thread if the values in contexts of its loop must be asked when they leave it."""
    return thread.thread if ASK_EVERY_VALUE or _OWNER in thread.attributes else None


def ask_values(sender: threading.Thread) -> Context:
    """Replace each value of the current context by what it wants to be on this thread.

    Returns a snapshot of the context after that.
    """
    before = copy_context()
    after: Context | None = before
    for variable, value in before.items():
        asked = _ask(value, sender)
        if asked is not value:
            variable.set(asked)
            after = None
    return copy_context() if after is None else after


def bring_back(after: Context, before: Context, leave_out: "ContextVar[Any] | None" = None) -> None:
    """Set in the current context what differs between `before` and `after`."""
    if len(after) >= _MANY_VARIABLES and _tree_of(after) is _tree_of(before):
        return
    for variable, value in after.items():
        if value is not before.get(variable, _MISSING) and variable is not leave_out:
            variable.set(_ask(value, None))


def _ask(value: object, sender: threading.Thread | None) -> object:
    bridge = getattr(type(value), "__asgiref_bridge__", None)
    return value if bridge is None else bridge(value, sender)


def _tree_of(context: Context) -> object:
    """Return the immutable tree that holds the variables of `context`.

    Two contexts with the same tree have the same variables, which needs no look at any of them:
    with 30 variables this takes 0.4 µs where the look takes 4. `Context` has no other way to tell;
    its `==` compares values by equality.
    """
    referents = gc.get_referents(context)
    return referents[-1] if referents else context
