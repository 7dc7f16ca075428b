"""Drive an ASGI application from a test: the test plays the server, and its clients.

`ApplicationCommunicator` sends events of any protocol and looks at what comes back:

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

The three protocols of the web have helpers, which are communicators with methods for what a client
does: `HttpExchange`, `WebsocketConversation` and, around both, `Lifespan`:

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

Modules: ``_communicator`` on ``_output`` (the queue of what the application sent, which can be
waited on without taking from it) and ``_report`` (what error messages say of it); ``_http``,
``_websocket`` and ``_lifespan`` on it, with ``_scopes`` (what a server tells of a request) and
``_connection`` (a client that may hang up); ``_stack``, which closes them after a test. ``_pytest``
is loaded by pytest only.
"""

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
