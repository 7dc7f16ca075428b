"""The record of one application instance, and the states that it goes through.

    LIVE ── its task ends ──────────────────────────────> ENDED
      └──── deleted, evicted ──> CANCELLED ── its task ends ──┘

A LIVE record is in the server's table and reads from its scope's queue; no other one does.

asgiref kept a plain dict for each instance, and servers read ``details["scope"]`` or
``details["future"]`` from it, write ``details["last_used"]``, and even insert dicts of their own.
So a record answers to those keys as a mapping; `adopted` makes one of such a dict.
"""

import asyncio
import enum
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping
from typing import Any, cast

from ._channel import Channel

_KEYS = ("input_queue", "future", "scope", "last_used")


class State(enum.Enum):
    LIVE = "live"
    CANCELLED = "cancelled"
    ENDED = "ended"


class ApplicationInstance(MutableMapping[str, Any]):
    """One run of the application for one scope: a value of ``server.application_instances``.

    It is a mapping too, with the keys ``"input_queue"``, ``"future"``, ``"scope"`` and
    ``"last_used"`` of asgiref's dicts. To be read on the server's event loop.

    Attributes:
        scope_id: what the server's ``handle`` named the scope by.
        scope: what the application was called with.
        input_queue: what it has not received yet.
        future: its task.
        channel: its ``receive`` and ``send``; None for an adopted instance.
        state: live, cancelled or ended.
        on_end: called with the record when its task has ended, if it is watched.
        redelivery: it was started only because its predecessor left messages.
        idle_timer: the timer that ends it when it is quiet for too long, if any.
        extra: an adopted instance's other keys.
    """

    __slots__ = (
        "channel",
        "extra",
        "future",
        "idle_timer",
        "input_queue",
        "on_end",
        "redelivery",
        "scope",
        "scope_id",
        "state",
    )

    def __init__(
        self,
        scope_id: Hashable,
        scope: object,
        input_queue: "asyncio.Queue[Any]",
        future: "asyncio.Future[Any]",
        channel: Channel | None,
    ) -> None:
        self.scope_id: Hashable = scope_id
        self.scope: object = scope
        self.input_queue: asyncio.Queue[Any] = input_queue
        self.future: asyncio.Future[Any] = future
        self.channel: Channel | None = channel
        self.state: State = State.LIVE
        self.on_end: Callable[[ApplicationInstance], None] | None = None
        self.redelivery: bool = False
        self.idle_timer: asyncio.TimerHandle | None = None
        self.extra: dict[str, Any] | None = None

    def ended(self, _future: "asyncio.Future[Any]") -> None:
        """The done-callback of the task. (A bound method: half the size of a ``partial``.)"""
        if self.on_end is not None:
            self.on_end(self)

    @property
    def last_used(self) -> float:
        """When a message last went either way, as ``time.time`` counts."""
        quiet = 0.0 if self.channel is None else time.monotonic() - self.channel.active_at
        return time.time() - quiet

    def __getitem__(self, key: str) -> Any:
        if key in _KEYS:
            return getattr(self, key)
        if self.extra is not None and key in self.extra:
            return self.extra[key]
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "last_used":
            if self.channel is not None:
                self.channel.active_at = time.monotonic() - (time.time() - value)
        elif key in _KEYS:
            setattr(self, key, value)
        else:
            self.extra = {**(self.extra or {}), key: value}

    def __delitem__(self, key: str) -> None:
        if self.extra is None or key not in self.extra:
            raise KeyError(f"{key} cannot be deleted from an application instance.")
        del self.extra[key]

    def __iter__(self) -> Iterator[str]:
        yield from _KEYS
        yield from self.extra or ()

    def __len__(self) -> int:
        return len(_KEYS) + len(self.extra or ())

    # Records are identities, not values, unlike other mappings.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __repr__(self) -> str:
        return f"<ApplicationInstance of {self.scope_id!r}, {self.state.value}>"


def adopted(scope_id: Hashable, details: object) -> ApplicationInstance:
    """The record for what a server's own code wants to put into the table.

    Raises:
        TypeError: if that has neither the shape of asgiref's dict nor is a record itself.
    """
    if isinstance(details, ApplicationInstance):
        return details
    if not (isinstance(details, Mapping) and {"input_queue", "future"} <= details.keys()):
        raise TypeError(
            f"The application instance of scope {scope_id!r} must be a mapping with 'input_queue' "
            f"and 'future', not {details!r}."
        )
    values = cast(Mapping[str, Any], details)
    record = ApplicationInstance(
        scope_id, values.get("scope"), values["input_queue"], values["future"], None
    )
    record.extra = {key: value for key, value in values.items() if key not in _KEYS} or None
    return record
