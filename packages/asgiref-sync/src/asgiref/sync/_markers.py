"""Which callables are coroutine functions.

Python 3.12 gave `inspect` a mark that says "calling this returns a coroutine"; before, only
`asyncio` had one, of its own. A wrapper must carry the mark that the running version looks at, and
whoever asks must use the question that belongs to the mark. Both names are therefore taken from one
place, chosen once, at import.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["MARKS", "iscoroutinefunction", "markcoroutinefunction"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: The attributes by which either generation of marks is recognised. A synchronous wrapper around a
#: marked callable must not inherit them.
MARKS = frozenset({"_is_coroutine", "_is_coroutine_mark", "_is_coroutine_marker"})

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from inspect import iscoroutinefunction
else:
    iscoroutinefunction = asyncio.iscoroutinefunction

if sys.version_info >= (3, 12):
    from inspect import markcoroutinefunction
else:

    def markcoroutinefunction(func: _F) -> _F:
        """Mark a function, so that `iscoroutinefunction` is true of it.

        Args:
            func: a function that returns a coroutine, or any other awaitable.

        Returns:
            The same function.
        """
        func._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
        return func


def describe(target: object) -> str:
    """Name `target` in an error message: its qualified name where it has one."""
    name = getattr(target, "__qualname__", None)
    if not isinstance(name, str):
        return repr(target)
    module = getattr(target, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else name
