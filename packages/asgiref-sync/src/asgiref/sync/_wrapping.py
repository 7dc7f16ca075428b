"""What a wrapper takes over from what it wraps.

Name, documentation, annotations, `__wrapped__` (which carries the signature), `__self__` of a bound
method, and the attributes that were set on it. Not taken over: an attribute that the wrapper has
itself, since then an attribute of the user's function would replace a method of the wrapper; and
the marks of coroutine functions, since each wrapper is what it is.
"""

import functools
from typing import Any

from ._markers import MARKS

__all__ = ["adopt_identity"]


def adopt_identity(wrapper: object, wrapped: Any) -> None:
    """Make `wrapper`, which has no attributes of its own yet, look like `wrapped`."""
    functools.update_wrapper(wrapper, wrapped, updated=())  # type: ignore[arg-type]
    attributes = vars(wrapper)
    for name, value in getattr(wrapped, "__dict__", {}).items():
        if name not in MARKS and name not in attributes and not hasattr(type(wrapper), name):
            attributes[name] = value
    if hasattr(wrapped, "__self__"):
        attributes["__self__"] = wrapped.__self__
