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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
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
    """Raise TypeError if ``application`` certainly cannot be called with a scope and nothing else.

    Only code objects tell that for certain. A signature may be missing, misleading
    (``__signature__`` and ``__wrapped__`` show another callable's) or raise, when annotations
    cannot be evaluated.
    Every callable without code in Python is left to its call.
    """
    called = _called_code(application)
    if called is None or called.takes_one_more():
        return
    raise TypeError(
        f"{describe(application)} is not an ASGI application: it is neither an async callable "
        f"taking (scope, receive, send) nor a callable taking (scope){_signature_of(application)}."
    )


@dataclass(slots=True)
class _Called:
    """A function that is called in the end, and the arguments that it gets besides the scope."""

    code: CodeType
    defaults: int
    keyword_defaults: frozenset[str]
    given: int = 0
    keywords: frozenset[str] = frozenset()

    def takes_one_more(self) -> bool:
        code, given = self.code, self.given + 1
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        positional, keyword_only = names[: code.co_argcount], names[code.co_argcount :]
        needed = set(positional[given : len(positional) - self.defaults]) | set(keyword_only)
        takes_any = bool(code.co_flags & inspect.CO_VARARGS)
        return (
            (takes_any or given <= code.co_argcount)
            and not self.keywords & set(positional[code.co_posonlyargcount : given])
            and needed <= self.keyword_defaults | self.keywords
        )


def _called_code(application: object) -> _Called | None:
    """Find the code that calling ``application`` runs; None if that is not certain."""
    if isinstance(application, FunctionType):
        defaults = len(application.__defaults__ or ())
        keyword_defaults = frozenset(application.__kwdefaults__ or ())
        return _Called(application.__code__, defaults, keyword_defaults)
    if type(application) is MethodType:
        return _with_arguments(application.__func__, 1)
    if type(application) is functools.partial:
        partial = cast("functools.partial[object]", application)
        if any(_is_placeholder(each) for each in partial.args):
            return None
        return _with_arguments(partial.func, len(partial.args), partial.keywords)
    if isinstance(application, type):
        return _called_of_class(application)
    # A descriptor other than a function may bind in its own way.
    method = inspect.getattr_static(type(application), "__call__", None)
    return _with_arguments(method, 1) if isinstance(method, FunctionType) else None


def _is_placeholder(argument: object) -> bool:
    """Whether it is ``functools.Placeholder`` of Python 3.14, which an argument replaces."""
    return argument is getattr(functools, "Placeholder", functools)


def _with_arguments(function: object, given: int, keywords: Iterable[str] = ()) -> _Called | None:
    called = _called_code(function)
    if called is not None:
        called.given += given
        called.keywords |= frozenset(keywords)
    return called


def _called_of_class(application: type) -> _Called | None:
    made: Any = type(application).__call__, application.__new__
    if made != (type.__call__, object.__new__):
        metaclass_call, new = made
        deciding = new if metaclass_call is type.__call__ else metaclass_call
        return _with_arguments(deciding, 1) if isinstance(deciding, FunctionType) else None
    initialize = cast(Any, application).__init__
    if initialize is object.__init__:
        return _Called(_takes_nothing.__code__, 0, frozenset())
    return _with_arguments(initialize, 1) if isinstance(initialize, FunctionType) else None


def _takes_nothing() -> None:
    """Stand for ``object.__init__``, which has no code object."""


def _signature_of(application: Callable[..., object]) -> str:
    try:
        return f", but takes {inspect.signature(application, follow_wrapped=False)}"
    except Exception:
        return ""


def describe(application: object) -> str:
    """Name the application in an error message: its dotted name, or else its repr."""
    try:
        name = getattr(application, "__qualname__", None)
        module = getattr(application, "__module__", None)
        if isinstance(name, str) and isinstance(module, str):
            return f"{module}.{name}"
        return repr(application)
    except Exception:
        return f"<{type(application).__name__}, whose repr() raises>"
