"""Turns a double-callable application into a single-callable one."""

import inspect
from typing import cast

from ._style import is_double_callable, name_of, require_double_callable
from ._types import DoubleCallable, Receive, Scope, Send, SingleCallable


def double_to_single_callable(application: DoubleCallable) -> SingleCallable:
    """Wrap an ASGI 2.0 application in an ASGI 3.0 application.

    Args:
        application: a callable that takes a scope and returns an ``async`` callable taking
            ``(receive, send)``; usually a class. The adapter calls it once for every scope, on the
            thread and in the task that awaits the adapter.

    Returns:
        A coroutine function with the parameters ``scope``, ``receive`` and ``send``. Awaiting its
        result runs the instance and returns the instance's value; exceptions and cancellation pass
        through unchanged.

    Raises:
        TypeError: immediately, if ``application`` is callable but cannot be called with only a
            scope; when awaited, if ``application`` or the instance that it returned is not
            callable. The message names the application.

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

    async def single_callable(scope: Scope, receive: Receive, send: Send) -> None:
        instance = application(scope)
        if not callable(instance):
            raise TypeError(_not_an_instance(application, instance))
        return await instance(receive, send)  # asgiref 3.13 returns the instance's value too

    return single_callable


def _rejecting(application: object) -> SingleCallable:
    """Return an application that raises TypeError when it is awaited."""

    async def single_callable(scope: Scope, receive: Receive, send: Send) -> None:
        raise TypeError(f"{name_of(application)} is not an ASGI application: it is not callable.")

    return single_callable


def _not_an_instance(application: object, instance: object) -> str:
    if inspect.iscoroutine(instance):
        instance.close()  # otherwise Python also warns that it was never awaited
    return (
        f"{name_of(application)} was called with a scope, as an ASGI 2.0 application, but it "
        f"returned {type(instance).__name__!r} instead of a callable taking (receive, send)."
    )


def guarantee_single_callable(application: object) -> SingleCallable:
    """Return ``application`` in the ASGI 3.0 style, whichever style it is written in.

    Args:
        application: an ASGI application of either style.

    Returns:
        The application itself if it is already single-callable, otherwise an adapter made by
        `double_to_single_callable`.

    Raises:
        TypeError: immediately, if the object is callable but follows neither style; when awaited,
            if the object is not callable. The message names the object.

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
