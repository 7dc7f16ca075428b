"""Types for the scopes, events and applications of ASGI.

These names are only for type checkers: annotate a server, a framework or an application with them,
and the checker knows which keys an event has.

>>> async def application(
...     scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
... ) -> None:
...     if scope["type"] == "http":
...         await send({"type": "http.response.start", "status": 204})
...         await send({"type": "http.response.body"})
>>> served: ASGI3Application = application

Each protocol has a module (``_http``, ``_websocket``, ``_lifespan``) that builds on ``_common``.
``_application`` combines them.
"""

import sys

from ._application import (
    ASGI2Application,
    ASGI2Protocol,
    ASGI3Application,
    ASGIApplication,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
    WWWScope,
)
from ._common import (
    ASGIVersions,
    Extensions,
    Headers,
    TLSExtension,
)
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

__all__ = [
    "ASGI2Application",
    "ASGI2Protocol",
    "ASGI3Application",
    "ASGIApplication",
    "ASGIReceiveCallable",
    "ASGIReceiveEvent",
    "ASGISendCallable",
    "ASGISendEvent",
    "ASGIVersions",
    "Extensions",
    "HTTPDisconnectEvent",
    "HTTPRequestEvent",
    "HTTPResponseBodyEvent",
    "HTTPResponseDebugEvent",
    "HTTPResponseEarlyHintEvent",
    "HTTPResponsePathsendEvent",
    "HTTPResponseStartEvent",
    "HTTPResponseTrailersEvent",
    "HTTPResponseZeroCopySendEvent",
    "HTTPScope",
    "HTTPServerPushEvent",
    "Headers",
    "LifespanScope",
    "LifespanShutdownCompleteEvent",
    "LifespanShutdownEvent",
    "LifespanShutdownFailedEvent",
    "LifespanStartupCompleteEvent",
    "LifespanStartupEvent",
    "LifespanStartupFailedEvent",
    "Scope",
    "TLSExtension",
    "WWWScope",
    "WebSocketAcceptEvent",
    "WebSocketCloseEvent",
    "WebSocketConnectEvent",
    "WebSocketDisconnectEvent",
    "WebSocketReceiveEvent",
    "WebSocketResponseBodyEvent",
    "WebSocketResponseStartEvent",
    "WebSocketScope",
    "WebSocketSendEvent",
]

__version__ = "1.0.0"

# Only the meta-package of these components may install asgiref/__init__.py. With the file that
# asgiref 3.13 installs, modules of two incompatible implementations would be mixed.
_package = vars(sys.modules["asgiref"])
if "__version__" in _package and "_installation_checked" not in _package:
    import warnings

    warnings.warn(
        f"asgiref {_package['__version__']} is installed together with asgiref-typing, which "
        "replaces part of it. The two do not work together: for example, sync_to_async loses the "
        'values of a Local. To repair the installation, run `pip install "asgiref~=3.13.100"` with '
        "the same --find-links or --index-url that you used to install asgiref-typing.",
        RuntimeWarning,
        stacklevel=2,
    )
    _package["_installation_checked"] = True
