"""Turning a double-callable application into a single-callable one."""

import inspect
from typing import Any, cast

from ._style import describe, is_double_callable, require_double_callable
from ._types import DoubleCallable, Receive, Scope, Send, SingleCallable


def double_to_single_callable(application: DoubleCallable) -> SingleCallable:
    """Give an ASGI 3.0 application that behaves as the ASGI 2.0 ``application``.

    Args:
        application: a callable that takes a scope and gives an ``async`` callable taking
            ``(receive, send)``; a class of such instances, most often. It is called anew for every
            scope, on the thread and in the task that calls the adapter.

    Returns:
        A coroutine function with the parameters ``scope``, ``receive`` and ``send``. Awaiting its
        result runs the instance; exceptions and cancellation pass through both ways unchanged.

    Raises:
        TypeError: at once, if ``application`` is callable, but not with a scope alone; when
            awaited, if it is not callable, or what it gave for the scope is not. All name the
            application.

    >>> def double(scope):
    ...     async def instance(receive, send):
    ...         await send(scope["type"])
    ...     return instance
    >>> is_double_callable(double_to_single_callable(double))
    False
    """
    if not callable(application):
        return _rejecting(application)
    require_double_callable(application)

    async def single_callable(scope: Scope, receive: Receive, send: Send) -> Any:
        instance = application(scope)
        if not callable(instance):
            raise TypeError(_no_instance(application, instance))
        return await instance(receive, send)

    return single_callable


def _rejecting(application: object) -> SingleCallable:
    """Stands for something that is not callable, and says so once it is called."""

    async def single_callable(scope: Scope, receive: Receive, send: Send) -> None:
        raise TypeError(f"{describe(application)} is not an ASGI application: it is not callable.")

    return single_callable


def _no_instance(application: object, instance: object) -> str:
    if inspect.iscoroutine(instance):
        instance.close()  # it was never meant to run; unclosed, it would warn of that as well
    return (
        f"{describe(application)} is called as an ASGI 2.0 application, but for a scope it gave "
        f"{type(instance).__name__!r} instead of a callable taking (receive, send)."
    )


def guarantee_single_callable(application: object) -> SingleCallable:
    """Give ``application`` in the ASGI 3.0 style, whichever style it is written in.

    Args:
        application: an ASGI application of either style.

    Returns:
        The application itself if it is single-callable already (the same object), otherwise an
        adapter made by `double_to_single_callable`.

    Raises:
        TypeError: at once, if the object is callable, but of neither style; when awaited, if it is
            not callable. It is named.

    >>> async def application(scope, receive, send): ...
    >>> guarantee_single_callable(application) is application
    True
    >>> def wsgi(environ, start_response): ...
    >>> guarantee_single_callable(wsgi)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: ...wsgi is not an ASGI application: it is neither an async callable taking ...
    """
    if is_double_callable(application):
        return double_to_single_callable(cast(DoubleCallable, application))
    if not callable(application):
        return _rejecting(application)
    return cast(SingleCallable, application)
