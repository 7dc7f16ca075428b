"""Tells the two application styles apart without calling the application.

The first rule that applies decides; a partial counts as the callable that it wraps:

1. a hint attribute on the object;
2. a class is double-callable: calling it with the scope creates the instance;
3. an object that returns a coroutine when called is single-callable;
4. anything else is double-callable, even an object that follows neither style.

`require_double_callable` rejects callables that follow neither style. Objects that are not callable
are rejected only when they are called, because servers' test suites pass placeholders.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

from asgiref.sync import iscoroutinefunction


def is_double_callable(application: object) -> bool:
    """Return whether ``application`` is written in the ASGI 2.0 style.

    Args:
        application: any object. If its attribute ``_asgi_single_callable`` or
            ``_asgi_double_callable`` is true, that attribute determines the result. Set one of them
            on a callable whose style cannot be detected.

    Returns:
        True for a double-callable application (called with the scope, it returns a callable for
        ``receive`` and ``send``), False for a single-callable one. The object is never called, and
        an object that is not an application counts as double-callable.

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
    called = application
    while isinstance(called, functools.partial):  # added arguments do not change the style
        called = cast(functools.partial[object], called).func
    if isinstance(called, type):
        return True
    if isinstance(called, (FunctionType, MethodType)) and _returns_coroutine(called):
        return False  # the usual case: the same answer as the checks below, in half the time
    # An instance is not a function, but its method is.
    method: object = getattr(called, "__call__", None)  # noqa: B004
    return not (_returns_coroutine(method) or _returns_coroutine(called))


def _returns_coroutine(candidate: object) -> bool:
    return callable(candidate) and bool(iscoroutinefunction(candidate))


def require_double_callable(application: Callable[..., object]) -> None:
    """Raise TypeError if ``application`` certainly cannot be called with only a scope.

    Only code objects are reliable. A signature may be missing, may describe another callable
    (``__signature__``, ``__wrapped__``), or may raise because annotations cannot be evaluated.
    Callables without Python code are accepted: only calling them shows whether they fit.
    """
    if _takes_only_scope(application):
        return  # the usual case: the same answer as the checks below, much faster
    called = _called_code(application)
    if called is None or called.takes_one_more():
        return
    raise TypeError(
        f"{name_of(application)} is not an ASGI application: it is neither an async callable "
        f"taking (scope, receive, send) nor a callable taking (scope){_signature_of(application)}."
    )


def _takes_only_scope(application: Callable[..., object]) -> bool:
    """Return whether ``application`` is a plain class or function with one named parameter."""
    function: Any = application
    given = 1
    if type(application) is type and function.__new__ is object.__new__:
        function, given = function.__init__, 2
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    return code.co_argcount == given and not code.co_kwonlyargcount


@dataclass(slots=True)
class _Called:
    """The function that a call reaches, and the arguments that it gets in addition to the scope."""

    code: CodeType
    defaults: int
    keyword_defaults: frozenset[str]
    given: int = 0
    keywords: frozenset[str] = frozenset()

    def takes_one_more(self) -> bool:
        """Whether one more positional argument makes the call complete."""
        code, given = self.code, self.given + 1
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        positional, keyword_only = names[: code.co_argcount], names[code.co_argcount :]
        # A keyword never reaches a positional-only parameter: the name goes to ``**kwargs``.
        only = code.co_posonlyargcount
        required = len(positional) - self.defaults
        needed = set(positional[max(given, only) : required]) | set(keyword_only)
        takes_any = bool(code.co_flags & inspect.CO_VARARGS)
        return (
            (takes_any or given <= code.co_argcount)
            and given >= min(only, required)
            and not self.keywords & set(positional[only:given])
            and needed <= self.keyword_defaults | self.keywords
        )


def _called_code(application: object) -> _Called | None:
    """Return the code that calling ``application`` runs, or None if that is not certain."""
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
    """Whether `argument` is Python 3.14's ``Placeholder``, which a later argument replaces."""
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
    """Stands in for ``object.__init__``, which has no code object."""


def _signature_of(application: Callable[..., object]) -> str:
    try:
        return f", but takes {inspect.signature(application, follow_wrapped=False)}"
    except Exception:
        return ""


def name_of(application: object) -> str:
    """Return the application's name for an error message: its dotted name, or its repr."""
    try:
        name = getattr(application, "__qualname__", None)
        module = getattr(application, "__module__", None)
        if isinstance(name, str) and isinstance(module, str):
            return f"{module}.{name}"
        return repr(application)
    except Exception:
        return f"<{type(application).__name__}, whose repr() raises>"
