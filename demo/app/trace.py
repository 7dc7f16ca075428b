"""The events that the page shows, with the thread and the loop that each piece ran on.

Invariant: ``Trace`` is the only object that all pieces share, and it numbers events under its lock.
So a browser that returns with the number of its last event misses none that is still stored.
"""

import asyncio
import itertools
import json
import threading
from collections import Counter, defaultdict, deque
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

STORED_EVENTS = 1000

Kind = Literal["ran", "chat", "guestbook", "fleet", "news"]
"""The name of an event in the page's event stream."""


@dataclass(frozen=True, slots=True)
class Where:
    """The thread, and the event loop and task if one runs there, that executed a piece of code."""

    thread: str
    thread_id: int
    loop: str = ""
    task: str = ""

    @classmethod
    def here(cls) -> Self:
        """Return where the caller runs. Each loop of the demo is named after its thread."""
        name, number = threading.current_thread().name, threading.get_native_id()
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs on this thread
            return cls(name, number)
        return cls(name, number, f"{name}'s loop", task.get_name() if task else "")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """An event with its number (1, 2, ...) and its JSON text."""

    number: int
    kind: Kind
    text: str


class Trace:
    """The record of the demo; any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._stored: deque[TraceEvent] = deque(maxlen=STORED_EVENTS)
        self._latest: dict[str, TraceEvent] = {}
        self._runs: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def ran(self, piece: str, where: Where | None = None) -> Where:
        """Record that ``piece`` runs here now, or that it ran in another process."""
        where = where or Where.here()
        with self._lock:
            runs = self._runs[piece]
            runs[where.thread_id] += 1
            ran = {"piece": piece, "where": asdict(where), "count": runs.total()}
            # Only the latest run matters, and there are so many that they would displace the chat.
            self._latest[piece] = self._event("ran", {**ran, "threads": len(runs)})
        return where

    def publish(self, kind: Kind, **data: Any) -> None:
        """Store an event."""
        with self._lock:
            self._stored.append(self._event(kind, data))

    def show(self, kind: Kind, **data: Any) -> None:
        """Publish a state, which replaces the previous one of this kind."""
        with self._lock:
            self._latest[kind] = self._event(kind, data)

    def _event(self, kind: Kind, data: dict[str, Any]) -> TraceEvent:
        return TraceEvent(next(self._numbers), kind, json.dumps(data))

    def since(self, after: int) -> list[TraceEvent]:
        """Return the events with a number above ``after``, in order.

        An ``after`` above all numbers comes from an earlier run of the demo and counts as 0.
        """
        with self._lock:
            known = [*self._stored, *self._latest.values()]
        known.sort(key=lambda event: event.number)
        is_from_earlier_run = not known or after > known[-1].number
        return [event for event in known if is_from_earlier_run or event.number > after]
