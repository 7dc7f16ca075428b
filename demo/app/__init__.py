"""The demo: a guestbook, a chatbot and a trip over the bridge, on one page.

- ``web``: the ASGI application that uvicorn serves, with ``chat``, the WebSocket chat server;
- ``guestbook``: the Flask application, under ``WsgiToAsgi``;
- ``bridge`` (with ``speed``): the Django application, under Django's ASGI handler;
- ``bot`` (with the application ``game``): the chatbot, a client of the chat server;
- ``fleet``: the worker processes of ``--workers``, which run the same game;
- ``trace``: the events that the page shows; ``storage``: SQLite for the guestbook and the game;
- ``demo``: the threads that run all pieces;
- ``options``, ``main``: the command line; ``check``: a visitor who looks at everything.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

# The ASGI specification leaves the values of scopes and events open, hence Any.
Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
