"""The errors that a client causes in the application, and the adapter's logging."""

from __future__ import annotations

import logging

from ._types import ExcInfo

logger = logging.getLogger("asgiref.wsgi")


LOOP_ENDED = "the event loop of the request cannot run: it is closed, or the process is exiting"


class ClientDisconnected(ConnectionError):
    """The client has left, or the request was cancelled. The application sees an OSError."""


class BodyTooLarge(OSError):
    """The request's body exceeds the maximum; the adapter answers with status 413."""


def safe_repr(error: BaseException) -> str:
    """Return the repr of an exception, or its type's name if `__repr__` raises."""
    try:
        return repr(error)
    except Exception:
        return type(error).__name__


def log_abandoned(error: BaseException) -> None:
    """Log an error that cannot be raised, because the call was cancelled."""
    logger.error(
        "the WSGI application failed after its call was cancelled", exc_info=_exc_info(error)
    )


def log_refused(error: ValueError) -> None:
    """Log a ValueError from `build_environ` whose text the client must not see."""
    logger.warning("build_environ raised a ValueError; answering 400", exc_info=_exc_info(error))


def _exc_info(error: BaseException) -> ExcInfo:
    """Return the error as a tuple, because logging tests the truth value of a bare exception."""
    return type(error), error, error.__traceback__


class Notices:
    """Warnings that an adapter logs once, instead of once per request."""

    def __init__(self) -> None:
        self._logged: dict[str, object] = {}

    def warn(self, key: str, message: str, *arguments: object) -> None:
        """Log a warning unless one with this key was logged before. Callable from any thread."""
        mine = object()
        if self._logged.setdefault(key, mine) is mine:  # atomic, so one thread wins
            logger.warning(message, *arguments)
