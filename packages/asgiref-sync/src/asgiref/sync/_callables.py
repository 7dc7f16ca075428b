"""Helpers for the callables that users pass in.

They recognise coroutine functions, give a wrapper the attributes of the function that it wraps, and
name objects in error messages.
"""

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

#: The attributes by which the supported versions of Python recognise a marked coroutine function. A
#: synchronous wrapper around a marked callable must not inherit them.
_MARKS = frozenset({"_is_coroutine", "_is_coroutine_mark", "_is_coroutine_marker"})

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from inspect import iscoroutinefunction as iscoroutinefunction
else:
    iscoroutinefunction = asyncio.iscoroutinefunction

if sys.version_info >= (3, 12):
    from inspect import markcoroutinefunction as markcoroutinefunction
else:

    def markcoroutinefunction(func: _F) -> _F:
        """Mark a function so that `iscoroutinefunction` returns True for it.

        Args:
            func: a function that returns a coroutine or any other awaitable.

        Returns:
            The same function.
        """
        func._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
        return func


def is_async_callable(target: Any) -> bool:
    """Whether `target` is a coroutine function or an object whose ``__call__`` is one."""
    call = getattr(target, "__call__", None)  # noqa: B004
    return iscoroutinefunction(target) or iscoroutinefunction(call)


def describe(target: object) -> str:
    """Return a name for `target` in error messages: its qualified name, or else its repr.

    Never raises an `Exception`, even if the object's attributes or repr do.
    """
    try:
        name = getattr(target, "__qualname__", None)
        if not isinstance(name, str):
            return repr(target)
        module = getattr(target, "__module__", None)
        return f"{module}.{name}" if isinstance(module, str) else name
    except Exception:
        return f"<{type(target).__qualname__} object>"


def adopt_identity(wrapper: object, wrapped: Any) -> None:
    """Make `wrapper`, which has no attributes yet, look like `wrapped`.

    It gets the name, docstring, annotations, signature, a bound method's ``__self__``, and the
    attributes that were set on the function. It gets neither the mark of a coroutine function nor
    attributes that its class also defines, because a user's attribute would replace a method.
    """
    functools.update_wrapper(wrapper, wrapped, updated=())  # type: ignore[arg-type]
    attributes = vars(wrapper)
    for name, value in getattr(wrapped, "__dict__", {}).items():
        if name not in _MARKS and name not in attributes and not hasattr(type(wrapper), name):
            attributes[name] = value
    if hasattr(wrapped, "__self__"):
        attributes["__self__"] = wrapped.__self__
