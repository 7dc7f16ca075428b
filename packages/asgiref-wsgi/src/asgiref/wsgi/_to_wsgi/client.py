"""Whether the client of a request has left: where a server lets its application find that out.

PEP 3333 has no such thing, so an idle response notices a client that left at its next chunk only.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from .threads import is_patched_by_gevent

#: Seconds between two looks at the client while the application sends nothing.
CHECK_INTERVAL = 1.0


def departure_check(environ: dict[str, Any]) -> Callable[[], bool] | None:
    """Return a function that tells whether the client has left, or None with other servers."""
    has_left = environ.get("waitress.client_disconnected")
    if callable(has_left):
        return lambda: bool(has_left())
    is_connected = environ.get("asgiref.client_connected")
    if callable(is_connected):
        return lambda: not is_connected()
    connection = environ.get("gunicorn.socket")
    if type(connection) is socket.socket and not is_patched_by_gevent():
        return partial(_is_closed, connection)
    return None


def _is_closed(connection: socket.socket) -> bool:
    try:
        # A request that the client has sent ahead stays where it is.
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
