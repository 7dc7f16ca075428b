"""`Local`: attributes that follow the running code through tasks, threads and the bridge.

The README says which code sees a value, and `docs/explanation` says why. "Async code" is code that
runs in a thread while an event loop runs there. A value set in synchronous code has an owner, its
thread (``_owners``); a value set in async code has none. A `Local` (``_local``) keeps each
attribute in a context variable, as a cell (``_cells``).

This package and ``asgiref.sync`` do not import each other. They share two names: a cell's method
``__asgiref_bridge__``, and the mark ``__asgiref_owner__`` on a thread. The README, under
"The protocol with the bridge", defines both.
"""

import sys

from ._local import Local

# asgiref's own tests import these two subclasses.
from ._local import _DefaultLocal as _DefaultLocal  # pyright: ignore[reportPrivateUsage]
from ._local import (
    _ThreadCriticalLocal as _ThreadCriticalLocal,  # pyright: ignore[reportPrivateUsage]
)

__all__ = ["Local"]

__version__ = "1.0.0"

# Only the meta-package of these components may install asgiref/__init__.py. With the file that
# asgiref 3.13 installs, modules of two incompatible implementations would be mixed.
_package = vars(sys.modules["asgiref"])
if "__version__" in _package and "_installation_checked" not in _package:
    import warnings

    warnings.warn(
        f"asgiref {_package['__version__']} is installed together with asgiref-local, which "
        "replaces part of it. The two do not work together: for example, sync_to_async loses the "
        'values of a Local. To repair the installation, run `pip install "asgiref~=3.13.100"` with '
        "the same --find-links or --index-url that you used to install asgiref-local.",
        RuntimeWarning,
        stacklevel=2,
    )
    _package["_installation_checked"] = True
