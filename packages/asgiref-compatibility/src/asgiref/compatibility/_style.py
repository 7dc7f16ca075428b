"""Telling a single-callable application from a double-callable one, without calling it.

The answer follows from what calling the object would give, first rule that applies:

1. a hint set on the object itself, for callables that hide their nature;
2. a class is double-callable: calling it with the scope makes the instance (here and below, a
   partial counts as what it calls);
3. whatever gives a coroutine when called is single-callable (its ``__call__`` is looked at before
   the object itself, because an instance is not a function but its method is);
4. anything else is double-callable.

Rule 4 takes in objects that are no application of either style. The predicate answers for them all
the same, as callers may use it to sort arbitrary objects; `require_double_callable` is the check
that rejects callables of neither style, and everything that goes on to *use* the application makes
it. What is not callable at all is only rejected when it is called: it may be a placeholder that
never is, as in the test suites of servers, and asgiref 3.13 lets that pass.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from asgiref.sync import iscoroutinefunction


def is_double_callable(application: object) -> bool:
    """Say whether ``application`` is written in the ASGI 2.0 style.

    Args:
        application: any object. An attribute ``_asgi_single_callable`` or
            ``_asgi_double_callable`` that is true decides, for callables that hide their nature.

    Returns:
        True for a double-callable application (call it with the scope, then call what it gave with
        ``receive`` and ``send``), False for a single-callable one. The object is never called, and
        objects that are no application at all count as double-callable.

    >>> async def single(scope, receive, send): ...
    >>> def double(scope):
    ...     async def instance(receive, send): ...
    ...     return instance
    >>> is_double_callable(single), is_double_callable(double)
    (False, True)
    """
    if getattr(application, "_asgi_single_callable", False):
        return False
    if getattr(application, "_asgi_double_callable", False):
        return True
    called = _without_partials(application)
    if inspect.isclass(called):
        return True
    if isinstance(called, FunctionType) and _gives_coroutine(called):
        return False  # the usual case; what follows would say so too, in twice the time
    method: object = getattr(called, "__call__", None)  # noqa: B004 - the method is what counts
    return not (_gives_coroutine(method) or _gives_coroutine(called))


def _without_partials(application: object) -> object:
    """What is called in the end; the arguments that a partial adds do not change what it gives."""
    while isinstance(application, functools.partial):
        application = cast(functools.partial[object], application).func
    return application


def _gives_coroutine(candidate: object) -> bool:
    return callable(candidate) and bool(iscoroutinefunction(candidate))


def require_double_callable(application: Callable[..., object]) -> None:
    """Raise TypeError unless ``application`` can be called with a scope and nothing else.

    Signatures are taken without following ``__wrapped__``: a double-callable middleware that uses
    functools.wraps on the application it wraps shows that application's parameters, not its own.
    """
    if _clearly_takes_one(application):
        return
    try:
        signature = inspect.signature(application, follow_wrapped=False)
    except (ValueError, TypeError):  # some builtins do not tell; calling them will
        return
    try:
        signature.bind({})
    except TypeError:
        raise TypeError(
            f"{describe(application)} is not an ASGI application: it is neither an async callable "
            f"taking (scope, receive, send) nor a callable taking (scope), but takes {signature}."
        ) from None


def _clearly_takes_one(application: Callable[..., object]) -> bool:
    """Whether a function, or a class with an ``__init__``, takes one positional argument.

    Only what its code object shows at once, which for a class takes 0.7 µs where
    ``inspect.signature`` takes 31. Tests ask for each communicator.
    """
    function, given = application, 1
    if isinstance(application, type):
        made_plainly: Any = type(application).__call__, application.__new__
        if made_plainly != (type.__call__, object.__new__):
            return False
        function, given = cast(Any, application).__init__, 2
    if not isinstance(function, FunctionType) or hasattr(application, "__signature__"):
        return False
    code = function.__code__
    needed = code.co_argcount - len(function.__defaults__ or ())
    has_defaults = len(function.__kwdefaults__ or ()) == code.co_kwonlyargcount
    return needed <= given <= code.co_argcount and has_defaults


def describe(application: object) -> str:
    """The application as an error message names it: its dotted name, or else its repr."""
    name = getattr(application, "__qualname__", None)
    module = getattr(application, "__module__", None)
    if isinstance(name, str) and isinstance(module, str):
        return f"{module}.{name}"
    return repr(application)
