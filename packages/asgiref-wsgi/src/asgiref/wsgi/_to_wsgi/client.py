"""Whether the client of a request has left: where a server lets its application find that out.

PEP 3333 has no such thing, so an idle response notices a client that left at its next chunk only.
"""

from __future__ import annotations

import os
import socket
import sys
from _socket import socket as Socket  # not patched by gevent, whose sockets wait
from collections.abc import Callable
from functools import partial
from typing import Any

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
    descriptor = _descriptor(environ)
    return None if descriptor is None else partial(_is_closed, descriptor)


def _descriptor(environ: dict[str, Any]) -> int | None:
    """The file descriptor of the connection, where the server tells it."""
    if not hasattr(socket, "MSG_DONTWAIT"):
        return None
    if "gunicorn.socket" in environ:
        return int(environ["gunicorn.socket"].fileno())
    if "uwsgi.version" in environ and "uwsgi" in sys.modules:
        return int(sys.modules["uwsgi"].connection_fd())
    return None


def _is_closed(descriptor: int) -> bool:
    try:
        connection = Socket(fileno=os.dup(descriptor))
    except OSError:
        return True
    try:
        # A request that the client has sent ahead stays where it is.
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
    finally:
        connection.close()
