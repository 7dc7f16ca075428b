"""Calling what users wrote: the application in either style, hooks with or without ``async``."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from asgiref.compatibility import SingleCallable
from asgiref.sync import iscoroutinefunction, sync_to_async

_T = TypeVar("_T")


class Remembered(Generic[_T]):
    """What ``find_out`` says of a callable; asked again only if that is replaced by another one.

    Telling what a callable is takes some microseconds, and every new instance has to know.
    """

    def __init__(self, find_out: Callable[[Any], _T]) -> None:
        self._find_out = find_out
        self._subject: object = None
        self._answer: _T | None = None

    def of(self, subject: Any) -> _T:
        if self._answer is None or self._subject is not subject:
            self._answer = self._find_out(subject)
            self._subject = subject
        return self._answer


def is_async(function: Callable[..., object]) -> bool:
    """Whether calling ``function`` gives something to await."""
    return bool(iscoroutinefunction(function))


async def call(function: Callable[..., object], *args: object) -> object:
    """Await ``function(*args)``; if it is synchronous, run it where thread-sensitive code runs."""
    if is_async(function):
        result = function(*args)
    else:
        result = await sync_to_async(function)(*args)
    return await result if inspect.isawaitable(result) else result


async def call_main(function: Callable[[], object]) -> object:
    """Likewise for a function that runs as long as the server.

    A synchronous one gets a thread of its own: on the one for thread-sensitive code, no other
    synchronous method could ever run beside it.
    """
    if is_async(function):
        result = function()
    else:
        result = await sync_to_async(function, thread_sensitive=False)()
    return await result if inspect.isawaitable(result) else result


def started(application: SingleCallable, **arguments: Any) -> "asyncio.Future[Any]":
    """The future of an application that is called now; what goes wrong, the future raises."""
    try:
        running = application(**arguments)
        if inspect.isawaitable(running):
            return asyncio.ensure_future(running)
        raise TypeError(
            f"The application {application!r} gave {type(running).__name__!r} when it was called, "
            "which cannot be awaited."
        )
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> "asyncio.Future[Any]":
    # Not in the function above: the traceback leads to its frame, and would close a cycle.
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


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
