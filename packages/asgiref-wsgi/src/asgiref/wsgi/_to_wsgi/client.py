"""Detects that a request's client has left, on servers that let the application find out.

PEP 3333 has no way to ask. On other servers, an idle response detects a lost client only at its
next chunk.
"""

from __future__ import annotations

import os
import socket
import sys
from _socket import socket as Socket  # not patched by gevent, whose sockets block
from collections.abc import Callable
from functools import partial
from typing import Any

#: Seconds between checks of the client while the application sends nothing.
CHECK_INTERVAL = 1.0


def departure_check(environ: dict[str, Any]) -> Callable[[], bool] | None:
    """Return a function that checks whether the client has left; None if no check is possible."""
    has_left = environ.get("waitress.client_disconnected")
    if callable(has_left):
        return lambda: bool(has_left())
    is_connected = environ.get("asgiref.client_connected")
    if callable(is_connected):
        return lambda: not is_connected()
    descriptor = _descriptor(environ)
    return None if descriptor is None else partial(_is_closed, descriptor)


def _descriptor(environ: dict[str, Any]) -> int | None:
    """The file descriptor of the connection, if the server provides it."""
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
        # Peek, so that a pipelined request stays in the socket.
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
    finally:
        connection.close()
