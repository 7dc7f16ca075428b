"""Whose is a value: the identity of a thread, and what a thread keeps for its present user.

An owner is an object that exactly one thread has; a value that plain synchronous code sets refers
to the owner of its thread. `threading.get_ident` would not do: an operating system gives the number
of a thread that ended to the next one, and a value in a copied context can outlive its thread.

`HERE` is a plain `threading.local`. A subclass with declared fields would read better, but CPython
looks attributes up by a slower path there, and reading a value pays for it. Each thread reads and
writes its own part only:

``HERE.owner``
    the thread's `Owner`; absent until plain synchronous code sets a value there
``HERE.stores``
    the stores (one per thread-critical Local) that hold something for the thread's present user

What the bridge of ``asgiref.sync`` may know stands in the thread's own ``__dict__``, under the two
names below; the package's docstring describes this protocol.
"""

import asyncio
import sys
import threading
import weakref

__all__ = [
    "ALWAYS_OWNED",
    "HERE",
    "Owner",
    "Store",
    "has_owner",
    "new_owner",
    "note_store",
    "running_loop",
]

#: Every new thread begins with a copy of its starter's context (a setting since Python 3.14). That
#: a value is in a context then says nothing of purpose, so each value needs an owner.
ALWAYS_OWNED = bool(getattr(sys.flags, "thread_inherit_context", 0))

#: The event loop that runs in this thread, or None. `get_running_loop` raises where none runs, and
#: that would cost more than all the rest of a read.
running_loop = asyncio._get_running_loop

HERE = threading.local()

_OWNER = "__asgiref_owner__"
_HANDOVER = "__asgiref_handover__"


class Owner:
    """One thread, for comparing by identity."""

    __slots__ = ()


def new_owner() -> Owner:
    """Give the current thread its owner. Only for a thread that has none yet."""
    owner = HERE.owner = threading.current_thread().__dict__[_OWNER] = Owner()
    return owner


def has_owner(thread: threading.Thread, owner: object) -> bool:
    """Whether `owner` is that of `thread`. Any thread may ask."""
    return thread.__dict__.get(_OWNER) is owner


class Store:
    """Values by thread: a `threading.local` to which a weak reference may have a callback.

    To a `threading.local` itself it may not. CPython (3.11 to 3.14 at least) runs the callbacks
    while the collector still tracks the dying object, and a collection meanwhile, in this thread or
    another, ends the process with a segmentation fault.
    """

    __slots__ = ("__weakref__", "here")

    def __init__(self) -> None:
        self.here = threading.local()


def note_store(store: Store) -> None:
    """Have `store` emptied, in this thread, when the thread gets another user.

    The thread refers to the store weakly: a Local that dies takes its values along.
    """
    try:
        stores = HERE.stores
    except AttributeError:
        stores = HERE.stores = weakref.WeakSet[Store]()
    stores.add(store)
    handlers = threading.current_thread().__dict__.setdefault(_HANDOVER, [])
    # One entry does for all stores of the thread, so the list cannot grow with their number.
    if _empty_stores not in handlers:
        handlers.append(_empty_stores)


def _empty_stores() -> None:
    """Forget what the thread's user left. The bridge calls it, in the thread, between two users."""
    stores = HERE.__dict__.pop("stores", ())
    for store in stores:
        store.here.__dict__.clear()
