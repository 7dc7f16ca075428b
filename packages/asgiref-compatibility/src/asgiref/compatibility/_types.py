"""The two application styles as types.

An adapted application must fit the ASGI types of every package (asgiref.typing, Starlette,
uvicorn). Its parameters are therefore as wide as possible: every TypedDict is a
``Mapping[str, object]``, and every ``send`` is a ``Callable[[Never], ...]``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Never, Protocol, TypeAlias

Scope: TypeAlias = Mapping[str, object]
"""Describes a connection; the key ``"type"`` names its protocol."""

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
"""An application's input: await it for the next event."""

Send: TypeAlias = Callable[[Never], Awaitable[object]]
"""An application's output: await it with an event. The type does not limit the events."""


class SingleCallable(Protocol):
    """An ASGI 3.0 application: called once, with the scope and both channels.

    >>> async def application(scope: Scope, receive: Receive, send: Send) -> None: ...
    >>> served: SingleCallable = application
    """

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...


DoubleCallable: TypeAlias = Callable[[Scope], Callable[[Receive, Send], Awaitable[None]]]
"""An ASGI 2.0 application: called with the scope, it returns a callable for the channels."""
