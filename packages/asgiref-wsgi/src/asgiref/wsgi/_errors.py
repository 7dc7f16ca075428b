"""What goes wrong between a client and the application."""

from __future__ import annotations


class ClientDisconnected(ConnectionError):
    """The client has left, or the request was cancelled; an OSError to the application."""


class BodyTooLarge(OSError):
    """The request's body exceeds the maximum; the client gets status 413."""


def describe(error: BaseException) -> str:
    """Return the repr of an exception, or its type's name where `__repr__` raises."""
    try:
        return repr(error)
    except Exception:
        return type(error).__name__
