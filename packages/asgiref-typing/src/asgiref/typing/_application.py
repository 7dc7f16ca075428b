"""Applications, their `receive` and `send`, and the unions over all protocols."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from ._http import (
    HTTPDisconnectEvent,
    HTTPRequestEvent,
    HTTPResponseBodyEvent,
    HTTPResponseDebugEvent,
    HTTPResponseEarlyHintEvent,
    HTTPResponsePathsendEvent,
    HTTPResponseStartEvent,
    HTTPResponseTrailersEvent,
    HTTPResponseZeroCopySendEvent,
    HTTPScope,
    HTTPServerPushEvent,
)
from ._lifespan import (
    LifespanScope,
    LifespanShutdownCompleteEvent,
    LifespanShutdownEvent,
    LifespanShutdownFailedEvent,
    LifespanStartupCompleteEvent,
    LifespanStartupEvent,
    LifespanStartupFailedEvent,
)
from ._websocket import (
    WebSocketAcceptEvent,
    WebSocketCloseEvent,
    WebSocketConnectEvent,
    WebSocketDisconnectEvent,
    WebSocketReceiveEvent,
    WebSocketResponseBodyEvent,
    WebSocketResponseStartEvent,
    WebSocketScope,
    WebSocketSendEvent,
)

WWWScope: TypeAlias = HTTPScope | WebSocketScope
"""The scopes of connections that start as an HTTP request."""

Scope: TypeAlias = HTTPScope | WebSocketScope | LifespanScope
"""Every scope; compare ``scope["type"]`` to narrow it."""

ASGIReceiveEvent: TypeAlias = (
    HTTPRequestEvent
    | HTTPDisconnectEvent
    | WebSocketConnectEvent
    | WebSocketReceiveEvent
    | WebSocketDisconnectEvent
    | LifespanStartupEvent
    | LifespanShutdownEvent
)
"""Every event that an application receives."""

# Only servers send http.disconnect, but asgiref's union has always included it, and code that is
# annotated with that union passes the event on.
ASGISendEvent: TypeAlias = (
    HTTPResponseStartEvent
    | HTTPResponseBodyEvent
    | HTTPResponseTrailersEvent
    | HTTPResponsePathsendEvent
    | HTTPResponseZeroCopySendEvent
    | HTTPResponseEarlyHintEvent
    | HTTPResponseDebugEvent
    | HTTPServerPushEvent
    | HTTPDisconnectEvent
    | WebSocketAcceptEvent
    | WebSocketSendEvent
    | WebSocketResponseStartEvent
    | WebSocketResponseBodyEvent
    | WebSocketCloseEvent
    | LifespanStartupCompleteEvent
    | LifespanStartupFailedEvent
    | LifespanShutdownCompleteEvent
    | LifespanShutdownFailedEvent
)
"""Every event that an application sends."""

ASGIReceiveCallable: TypeAlias = Callable[[], Awaitable[ASGIReceiveEvent]]
"""The application's input: await it for the next event."""

ASGISendCallable: TypeAlias = Callable[[ASGISendEvent], Awaitable[None]]
"""The application's output: await it with an event."""


class ASGI2Protocol(Protocol):
    """An instance of an ASGI 2.0 application, created for one scope and then run once.

    >>> class Greeting:
    ...     def __init__(self, scope: Scope) -> None:
    ...         self.scope = scope
    ...     async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    ...         await send({"type": "websocket.close"})
    >>> application: ASGI2Application = Greeting
    """

    def __init__(self, scope: Scope) -> None: ...

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None: ...


ASGI2Application: TypeAlias = type[ASGI2Protocol]
"""An ASGI 2.0 application: the class of its instances."""

ASGI3Application: TypeAlias = Callable[
    [Scope, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]
]
"""An ASGI 3.0 application."""

ASGIApplication: TypeAlias = ASGI2Application | ASGI3Application
"""An application of either style."""
