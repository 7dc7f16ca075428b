"""The two application styles as types.

They are written so that an adapted application fits wherever an application is wanted, whichever
package's ASGI types (asgiref.typing, Starlette's, uvicorn's) the other side uses. Parameters are
therefore as wide as they can be: every TypedDict is a ``Mapping[str, object]``, and every ``send``,
whatever events it accepts, is a ``Callable[[Never], ...]``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Never, Protocol, TypeAlias

Scope: TypeAlias = Mapping[str, object]
"""What a connection is about: a mapping that says its protocol under ``"type"``."""

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
"""An application's input: await it for the next event."""

Send: TypeAlias = Callable[[Never], Awaitable[object]]
"""An application's output: await it with an event; which ones it takes is not said here."""


class SingleCallable(Protocol):
    """An ASGI 3.0 application: called once, with the scope and both channels.

    >>> async def application(scope: Scope, receive: Receive, send: Send) -> None: ...
    >>> served: SingleCallable = application
    """

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...


DoubleCallable: TypeAlias = Callable[[Scope], Callable[[Receive, Send], Awaitable[None]]]
"""An ASGI 2.0 application: called with the scope, it gives a callable for the channels."""
