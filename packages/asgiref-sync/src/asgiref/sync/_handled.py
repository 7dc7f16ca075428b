"""The exception that the caller is handling, made visible on the other thread.

Code called from an ``except`` block sees the exception in `sys.exc_info()` and as the context of
whatever it raises itself. Across the bridge this takes raising the exception again on the other
thread and running the code in the handler. Raising has two side effects on the exception, which
belongs to the caller: the traceback grows by a frame, and `__context__` becomes whatever that
thread happens to be handling. Both are put back before the code runs.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

__all__ = ["ExcInfo", "exc_info_of", "run_handling"]

_R = TypeVar("_R")

#: What `sys.exc_info()` returns.
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def exc_info_of(error: BaseException | None) -> ExcInfo:
    """Return what `sys.exc_info()` returns while `error` is handled."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def run_handling(error: BaseException, function: Callable[[], _R]) -> _R:
    """Return ``function()``, called while `error` is the exception being handled."""
    traceback, context = error.__traceback__, error.__context__
    try:
        raise error
    except BaseException:
        error.__traceback__, error.__context__ = traceback, context
        del traceback, context
        return function()
    finally:
        # The frame is part of the traceback of whatever the function raises.
        del error
