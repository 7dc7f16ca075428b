"""Serve ASGI 2.0 applications with code written for ASGI 3.0.

An ASGI 3.0 application is called once, ``await application(scope, receive, send)``: it is
*single-callable*. An ASGI 2.0 application was called twice, first with the scope and then, for an
instance bound to that scope, with the channels: ``await application(scope)(receive, send)``. It is
*double-callable*. A server, a test harness or a middleware that accepts both passes the application
through `guarantee_single_callable` and then needs to support only the newer style.

>>> import asyncio
>>> class Old:  # ASGI 2.0
...     def __init__(self, scope):
...         self.scope = scope
...     async def __call__(self, receive, send):
...         await send({"type": "greeting", "text": f"hello {self.scope['user']}"})
>>> async def send(event):
...     print(event["text"])
>>> application = guarantee_single_callable(Old)
>>> asyncio.run(application({"type": "chat", "user": "ada"}, None, send))
hello ada

Modules: ``_types`` (the shapes of both styles), ``_style`` (telling them apart), ``_adapter``
(converting between them).
"""

from ._adapter import double_to_single_callable, guarantee_single_callable
from ._style import is_double_callable
from ._types import DoubleCallable, Receive, Scope, Send, SingleCallable

__all__ = [
    "DoubleCallable",
    "Receive",
    "Scope",
    "Send",
    "SingleCallable",
    "double_to_single_callable",
    "guarantee_single_callable",
    "is_double_callable",
]

__version__ = "1.0.0"
