"""The owner of a value: the thread whose synchronous code set it.

The operating system reuses the number of a thread that has exited, and a copied context can outlive
its thread, so `threading.get_ident` cannot tell two threads apart. Instead, each thread has an
`Owner`, created when its code first needs one. Owners are compared by identity.

`HERE` is a plain `threading.local`: CPython takes a slower path to the attributes of a subclass,
which would slow down every read of a value.
"""

import asyncio
import sys
import threading
import weakref

__all__ = [
    "ALWAYS_OWNED",
    "HERE",
    "Owner",
    "is_owner",
    "make_owner",
    "owner_here",
    "running_loop",
]

#: Whether a new thread starts with a copy of the context of the thread that started it (a setting
#: since Python 3.14). If so, a context does not show whether its values were passed deliberately,
#: so each value needs an owner.
ALWAYS_OWNED = bool(getattr(sys.flags, "thread_inherit_context", 0))

#: Returns the event loop of this thread, or None. `asyncio.get_running_loop` raises if no loop
#: runs, which would cost more than the rest of a read.
running_loop = asyncio._get_running_loop

#: `HERE.owner` is the current thread's `Owner`. A thread that owns nothing lacks the attribute.
HERE = threading.local()

# Tells a bridge that contexts of this thread can hold values that have an owner (see the README).
_MARK = "__asgiref_owner__"


class Owner(weakref.ref[threading.Thread]):
    """One thread. The reference is weak, because a thread's context can refer to its owner."""

    __slots__ = ()


def owner_here() -> Owner | None:
    """Return the owner of a value that the running code sets; None in async code."""
    if not ALWAYS_OWNED and running_loop() is not None:
        return None
    try:
        owner: Owner = HERE.owner
    except AttributeError:
        owner = make_owner()
    return owner


def is_owner(owner: object, thread: threading.Thread) -> bool:
    """Return whether `owner` is the `Owner` of `thread`. Any thread may call this."""
    return isinstance(owner, Owner) and owner() is thread


def make_owner() -> Owner:
    """Return the owner of the current thread, and mark the thread."""
    thread = threading.current_thread()
    # Mark first: an interrupt between the two lines must not leave an owner that no bridge sees.
    thread.__dict__[_MARK] = True
    # A finalizer or signal handler may have made the owner in the meantime; if so, use that one.
    owner: Owner = HERE.__dict__.setdefault("owner", Owner(thread))
    return owner
