"""Lifespan: the ASGI lifespan specification 2.0, with state.

Each event loop that serves an application has one scope. In: `LifespanStartupEvent` before the
first request, `LifespanShutdownEvent` after the last. The application answers each event with
"complete" or "failed".
"""

from typing import Any, Literal, NotRequired, TypedDict

from ._common import ASGIVersions


class LifespanScope(TypedDict):
    """The lifetime of the server. Each request gets a copy of this ``state`` in its own scope.

    >>> scope: LifespanScope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    >>> scope["state"]["pool"] = "the application's database connections"
    >>> request_state = scope["state"].copy()  # as a server does
    >>> sorted(request_state)
    ['pool']
    """

    type: Literal["lifespan"]
    asgi: ASGIVersions
    state: NotRequired[dict[str, Any]]


class LifespanStartupEvent(TypedDict):
    """In: start up; the server waits for the answer before it accepts requests.

    >>> LifespanStartupEvent(type="lifespan.startup")
    {'type': 'lifespan.startup'}
    """

    type: Literal["lifespan.startup"]


class LifespanShutdownEvent(TypedDict):
    """In: clean up; no requests remain open, and the server exits after the answer.

    >>> LifespanShutdownEvent(type="lifespan.shutdown")
    {'type': 'lifespan.shutdown'}
    """

    type: Literal["lifespan.shutdown"]


class LifespanStartupCompleteEvent(TypedDict):
    """Out: the application is ready.

    >>> LifespanStartupCompleteEvent(type="lifespan.startup.complete")
    {'type': 'lifespan.startup.complete'}
    """

    type: Literal["lifespan.startup.complete"]


class LifespanStartupFailedEvent(TypedDict):
    """Out: startup failed; the server logs the message and exits.

    >>> LifespanStartupFailedEvent(type="lifespan.startup.failed", message="no database")
    {'type': 'lifespan.startup.failed', 'message': 'no database'}
    """

    type: Literal["lifespan.startup.failed"]
    message: NotRequired[str]


class LifespanShutdownCompleteEvent(TypedDict):
    """Out: the application has cleaned up.

    >>> LifespanShutdownCompleteEvent(type="lifespan.shutdown.complete")
    {'type': 'lifespan.shutdown.complete'}
    """

    type: Literal["lifespan.shutdown.complete"]


class LifespanShutdownFailedEvent(TypedDict):
    """Out: the cleanup failed; the server logs the message and exits.

    >>> LifespanShutdownFailedEvent(type="lifespan.shutdown.failed", message="not flushed")
    {'type': 'lifespan.shutdown.failed', 'message': 'not flushed'}
    """

    type: Literal["lifespan.shutdown.failed"]
    message: NotRequired[str]
