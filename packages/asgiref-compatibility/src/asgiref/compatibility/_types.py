"""The two application styles as types.

They are written so that an adapted application fits wherever an application is wanted, whichever
package's ASGI types (asgiref.typing, Starlette's, uvicorn's) the other side uses. Parameters are
therefore as wide as they can be: every TypedDict is a ``Mapping[str, object]``, and every ``send``,
whatever events it accepts, is a ``Callable[[Never], ...]``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Never, Protocol, TypeAlias

Scope: TypeAlias = Mapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
Send: TypeAlias = Callable[[Never], Awaitable[object]]


class SingleCallable(Protocol):
    """An ASGI 3.0 application: called once, with the scope and both channels."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...


DoubleCallable: TypeAlias = Callable[[Scope], Callable[[Receive, Send], Awaitable[None]]]
"""An ASGI 2.0 application: called with the scope, it gives a callable for the channels."""
