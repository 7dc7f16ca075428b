"""Drive an ASGI application from a test, which acts as the server and its clients.

`ApplicationCommunicator` sends events of any protocol and reads the application's events:

>>> import asyncio
>>> async def application(scope, receive, send):
...     event = await receive()
...     await send({"type": "chat.reply", "text": event["text"].upper()})
>>> async def main():
...     async with ApplicationCommunicator(application, {"type": "chat"}) as communicator:
...         await communicator.send_input({"type": "chat.message", "text": "hello"})
...         return await communicator.receive_output()
>>> asyncio.run(main())
{'type': 'chat.reply', 'text': 'HELLO'}

Three helpers are communicators too. `HttpExchange` and `WebsocketConversation` have the methods of
a client, and `Lifespan` runs the application's startup and shutdown around them:

>>> async def site(scope, receive, send):
...     if scope["type"] == "lifespan":
...         scope["state"]["greeting"] = b"hello"
...         for step in ("startup", "shutdown"):
...             await receive()
...             await send({"type": f"lifespan.{step}.complete"})
...     else:
...         await send({"type": "http.response.start", "status": 200})
...         await send({"type": "http.response.body", "body": scope["state"]["greeting"]})
>>> async def main():
...     async with Lifespan(site) as lifespan:
...         async with HttpExchange(site, "GET", "/", state=lifespan.state) as exchange:
...             return (await exchange.response()).body
>>> asyncio.run(main())
b'hello'

Modules: ``_communicator`` is the base class. Its ``_runner`` runs the application and reports how
it ended (``_report`` writes the messages), and ``_output`` is the queue of events that the
application sent. ``_rules`` and ``_http_rules`` reject the events that a server would reject,
``_connection`` is a client that may disconnect, and ``_scopes`` builds the scopes. ``_http``,
``_websocket`` and ``_lifespan`` are the helpers. ``_stack`` closes communicators after a test. Only
pytest loads ``_pytest``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._communicator import ApplicationCommunicator
    from ._http import HttpExchange, HttpResponse, ResponseStart
    from ._lifespan import Lifespan, LifespanFailed
    from ._stack import CommunicatorStack
    from ._websocket import WebsocketClosed, WebsocketConversation, WebsocketDenied

__all__ = [
    "ApplicationCommunicator",
    "CommunicatorStack",
    "HttpExchange",
    "HttpResponse",
    "Lifespan",
    "LifespanFailed",
    "ResponseStart",
    "WebsocketClosed",
    "WebsocketConversation",
    "WebsocketDenied",
]

__version__ = "1.0.0"

# Only the meta-package of these components may install asgiref/__init__.py. With the file that
# asgiref 3.13 installs, modules of two incompatible implementations would be mixed. (The helpers
# check this too, but they may be imported much later.)
_package = vars(sys.modules["asgiref"])
if "__version__" in _package and "_installation_checked" not in _package:
    import warnings

    warnings.warn(
        f"asgiref {_package['__version__']} is installed together with asgiref-testing, which "
        "replaces part of it. The two do not work together: for example, sync_to_async loses the "
        'values of a Local. To repair the installation, run `pip install "asgiref~=3.13.100"` with '
        "the same --find-links or --index-url that you used to install asgiref-testing.",
        RuntimeWarning,
        stacklevel=2,
    )
    _package["_installation_checked"] = True

# The helpers are imported when they are first used, because pytest imports this package for its
# plugin in every project. A project's conftest.py may need to call gevent's `monkey.patch_all`
# before asyncio and threads are used, or to start a tracer before they are imported.
_MODULES = {
    "ApplicationCommunicator": "_communicator",
    "CommunicatorStack": "_stack",
    "HttpExchange": "_http",
    "HttpResponse": "_http",
    "Lifespan": "_lifespan",
    "LifespanFailed": "_lifespan",
    "ResponseStart": "_http",
    "WebsocketClosed": "_websocket",
    "WebsocketConversation": "_websocket",
    "WebsocketDenied": "_websocket",
}

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
