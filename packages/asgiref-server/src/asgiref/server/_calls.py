"""Calling what users wrote: the application in either style, hooks with or without ``async``."""

import inspect
from collections.abc import Callable, Mapping

from asgiref.compatibility import SingleCallable, guarantee_single_callable
from asgiref.sync import iscoroutinefunction, sync_to_async


class ApplicationStyle:
    """The single-callable form of the application; worked out again only if that is replaced."""

    def __init__(self) -> None:
        self._given: object = None
        self._single: SingleCallable | None = None

    def of(self, application: object) -> SingleCallable:
        if self._single is None or self._given is not application:
            self._single = guarantee_single_callable(application)
            self._given = application
        return self._single


def is_async(function: Callable[..., object]) -> bool:
    """Whether calling ``function`` gives something to await."""
    return bool(iscoroutinefunction(function))


async def call(function: Callable[..., object], *args: object) -> object:
    """Await ``function(*args)``; if it is synchronous, run it through the bridge on its thread."""
    if is_async(function):
        result = function(*args)
    else:
        result = await sync_to_async(function)(*args)
    return await result if inspect.isawaitable(result) else result


def check_application(application: object) -> None:
    """Raise TypeError unless ``application`` can be called."""
    if not callable(application):
        raise TypeError(f"A StatelessServer needs an ASGI application, not {application!r}.")


def check_scope_id(scope_id: object) -> None:
    """Raise TypeError unless ``scope_id`` can identify a scope."""
    try:
        hash(scope_id)
    except TypeError:
        raise TypeError(f"A scope id must be hashable, not {scope_id!r}.") from None


def check_scope(scope_id: object, scope: object) -> None:
    """Raise ValueError for a mapping without a type.

    A scope that is no mapping at all is passed on: asgiref never looked at it, and servers for a
    protocol of their own use an address, for example.
    """
    if isinstance(scope, Mapping) and "type" not in scope:
        raise ValueError(f"The scope of scope id {scope_id!r} has no 'type': {scope!r}.")
