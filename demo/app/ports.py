"""The port that the demo serves on. ``run.py`` tries it first, before anything is installed."""

from __future__ import annotations

import errno
import socket

HOST = "127.0.0.1"


class PortUnusable(OSError):
    """The port is unusable; the text is one sentence that names the port and the remedy."""


def bind(port: int) -> socket.socket:
    """Listen on ``port`` of 127.0.0.1; 0 means any free port. Raises `PortUnusable`."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortUnusable(_advice(port, error)) from None
    except BaseException:
        listener.close()
        raise
    return listener


def is_free(port: int) -> bool:
    try:
        bind(port).close()
    except PortUnusable:
        return False
    return True


def _advice(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use by another program: end that one, choose another with "
            "--port N, or let --port 0 take a free one."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"port {port} needs privileges that this user does not have: choose one from 1024 up "
            "with --port N, or let --port 0 take a free one."
        )
    return f"cannot listen on port {port} of {HOST}: {error.strerror}."
