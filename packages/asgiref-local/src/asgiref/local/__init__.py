"""`Local`: attributes that follow the running code through tasks, threads and the bridge.

The README says where a value is seen, and `docs/explanation` why. "Async code" is code that runs in
a thread while an event loop runs there. A value set in synchronous code has an owner, its thread
(``_owners``); a value set in async code has none. A `Local` (``_local``) keeps each attribute in a
context variable, as a cell (``_cells``).

This package and ``asgiref.sync`` import nothing of each other. They share two names: the method
``__asgiref_bridge__`` of a cell, and the mark ``__asgiref_owner__`` of a thread. The README, under
"The protocol with the bridge", defines both.
"""

from ._local import Local

# asgiref's own tests import the two classes that instances have.
from ._local import _DefaultLocal as _DefaultLocal  # pyright: ignore[reportPrivateUsage]
from ._local import (
    _ThreadCriticalLocal as _ThreadCriticalLocal,  # pyright: ignore[reportPrivateUsage]
)

__all__ = ["Local"]
