"""`Local`: attributes that follow the running code, through tasks, threads and the bridge.

The rules. "Async code" is whatever runs in a thread while an event loop runs there.

* A value set in async code has no owner: it is seen wherever the context is copied to, that is in
  what is awaited, in tasks, in ``asyncio.to_thread``, in code called through ``sync_to_async``.
* A value set in synchronous code is owned by the thread. It is seen where the context goes on that
  same thread (``asyncio.run`` included), not in a thread that merely got a copy of the context.
  ``async_to_sync`` and ``sync_to_async`` carry it, and bring changes back.
* A change is never seen by the code that a context was copied from, except through the bridge.
* ``thread_critical=True``: in synchronous code the thread's, as with `threading.local`; in async
  code the context's, while the same event loop runs. The bridge carries nothing.

The protocol. This package imports nothing of ``asgiref.sync``, nor the other way round. What they
have in common are three names, which any other package may use as well:

1. A value in a context variable whose type defines ``__asgiref_bridge__(self, sender)`` is replaced
   by what this returns when the bridge moves the context. The method is called on the receiving
   thread, inside the receiving context, in which the variable still has the value it had before.
   `sender` is the `threading.Thread` that the context comes from: what it does not own, because it
   merely has a copy of another thread's context, does not travel in its name. It is None for a
   change that comes back from a call: that counts as the caller's own.
2. ``thread.__dict__["__asgiref_handover__"]`` is a list of callables. When a thread is lent to
   another user, the list is taken out and each callable called once, in that thread.
3. ``thread.__dict__["__asgiref_owner__"]`` is present once plain synchronous code has set a value
   in that thread: contexts in this thread can contain owned values. (Async code under
   ``asyncio.run`` inherits such values, so "came from async code" does not imply "has no owner".)

How it is built: ``_accessors`` are the functions that a Local consists of, ``_following`` and
``_staying`` make them for its two kinds, ``_attributes`` knows which context variable holds which
attribute, ``_cells`` what is in those variables, ``_owners`` whose it is.
"""

import sys

from ._local import Local

# asgiref's own tests import the two classes that instances are of.
from ._local import _DefaultLocal as _DefaultLocal  # pyright: ignore[reportPrivateUsage]
from ._local import (
    _ThreadCriticalLocal as _ThreadCriticalLocal,  # pyright: ignore[reportPrivateUsage]
)

__all__ = ["Local"]

__version__ = "1.0.0"

# Only the meta-package of these components may bring asgiref/__init__.py. With that of asgiref
# 3.13, modules of two implementations would run side by side and not work together.
_package = vars(sys.modules["asgiref"])
if "__version__" in _package and "_installation_checked" not in _package:
    import warnings

    warnings.warn(
        f"asgiref {_package['__version__']} is installed together with asgiref-local, which "
        "replaces a part of it. The parts do not work together: sync_to_async loses the values of "
        'a Local, for example. Repair it by `pip install "asgiref~=3.13.100"`, with the same '
        "--find-links or --index-url that asgiref-local was installed with.",
        RuntimeWarning,
        stacklevel=2,
    )
    _package["_installation_checked"] = True
