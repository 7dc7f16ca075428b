"""Lifespan: the ASGI lifespan specification 2.0, with state.

One scope for each event loop that serves an application. In: `LifespanStartupEvent` before the
first request, `LifespanShutdownEvent` after the last; each is answered by complete or failed.
"""

from typing import Any, Literal, NotRequired, TypedDict

from ._common import ASGIVersions


class LifespanScope(TypedDict):
    """The life of the server. What the application puts into ``state``, requests find in theirs."""

    type: Literal["lifespan"]
    asgi: ASGIVersions
    state: NotRequired[dict[str, Any]]


class LifespanStartupEvent(TypedDict):
    """In: make ready; the server waits for the answer before it serves."""

    type: Literal["lifespan.startup"]


class LifespanShutdownEvent(TypedDict):
    """In: clean up; no request is open any more, and the server ends after the answer."""

    type: Literal["lifespan.shutdown"]


class LifespanStartupCompleteEvent(TypedDict):
    """Out: ready."""

    type: Literal["lifespan.startup.complete"]


class LifespanStartupFailedEvent(TypedDict):
    """Out: not ready; the server logs the message and ends."""

    type: Literal["lifespan.startup.failed"]
    message: NotRequired[str]


class LifespanShutdownCompleteEvent(TypedDict):
    """Out: cleaned up."""

    type: Literal["lifespan.shutdown.complete"]


class LifespanShutdownFailedEvent(TypedDict):
    """Out: not cleaned up; the server logs the message and ends."""

    type: Literal["lifespan.shutdown.failed"]
    message: NotRequired[str]
