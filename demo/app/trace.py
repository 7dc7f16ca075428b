"""The events that the page shows, with the thread and the loop that each piece ran on.

Invariant: ``Trace`` is the only object that all pieces share, and it numbers events under its lock.
So a browser that returns with the number of its last event misses none that is still stored. Any
thread may publish; each subscriber reads on its own event loop, at its own speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

STORED_EVENTS = 1000


class Kind(StrEnum):
    """The kinds of event; each is an event name of the page's event stream."""

    RAN = "ran"
    CHAT = "chat"
    GUESTBOOK = "guestbook"
    FLEET = "fleet"
    NEWS = "news"


@dataclass(frozen=True, slots=True)
class Where:
    """The thread, and the event loop and task if one runs there, that executed a piece of code."""

    thread: str
    thread_id: int
    loop: str = ""
    task: str = ""

    @classmethod
    def here(cls) -> Where:
        """Return where the caller runs. Each loop of the demo is named after its thread."""
        name, number = threading.current_thread().name, threading.get_native_id()
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs on this thread
            return cls(name, number)
        return cls(name, number, f"{name}'s loop", task.get_name() if task else "")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """A published event with its number (1, 2, ...) and its JSON text."""

    number: int
    kind: Kind
    text: str


@dataclass(slots=True)
class _Tally:
    count: int = 0
    threads: set[int] = field(default_factory=set)


class Trace:
    """The record of the demo: publish from any thread, subscribe from any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._stored: deque[TraceEvent] = deque(maxlen=STORED_EVENTS)
        self._latest: dict[str, TraceEvent] = {}
        self._tallies: dict[str, _Tally] = {}
        self._subscribers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closed = False

    def ran(self, piece: str, where: Where | None = None) -> Where:
        """Record that ``piece`` runs here now, or that it ran in another process."""
        where = where or Where.here()
        with self._lock:
            tally = self._tallies.setdefault(piece, _Tally())
            tally.count += 1
            tally.threads.add(where.thread_id)
            ran = {"piece": piece, "where": asdict(where), "count": tally.count}
            # Only the latest run matters, and there are so many that they would displace the chat.
            self._latest[piece] = self._event(Kind.RAN, {**ran, "threads": len(tally.threads)})
        return where

    def publish(self, kind: Kind, **data: Any) -> None:
        """Store an event, and wake every subscriber."""
        with self._lock:
            self._stored.append(self._event(kind, data))

    def show(self, kind: Kind, **data: Any) -> None:
        """Publish a state, which replaces the previous one of this kind."""
        with self._lock:
            self._latest[kind] = self._event(kind, data)

    def close(self) -> None:
        """End all current and future subscriptions; safe from any thread, and more than once."""
        with self._lock:
            self._closed = True
            self._wake()

    def _event(self, kind: Kind, data: dict[str, Any]) -> TraceEvent:
        self._number += 1
        self._wake()
        return TraceEvent(self._number, kind, json.dumps(data))

    def _wake(self) -> None:
        for wake, loop in self._subscribers.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: its subscriber has ended
                loop.call_soon_threadsafe(wake.set)

    def _since(self, after: int) -> list[TraceEvent]:
        known = [*self._stored, *self._latest.values()]
        return sorted((each for each in known if each.number > after), key=lambda each: each.number)

    async def subscribe(self, after: int = 0) -> AsyncIterator[list[TraceEvent]]:
        """Yield the stored events numbered above ``after``, then the new ones, until `close`.

        An ``after`` above all numbers comes from an earlier run of the demo and counts as 0.
        """
        wake = asyncio.Event()
        with self._lock:
            self._subscribers[wake] = asyncio.get_running_loop()
            after = after if after <= self._number else 0
        try:
            closed = False
            while not closed:
                wake.clear()  # before reading the events, so that none is missed in between
                with self._lock:
                    events, closed = self._since(after), self._closed
                if events:
                    yield events
                    after = events[-1].number
                if not closed:
                    await wake.wait()
        finally:
            with self._lock:
                del self._subscribers[wake]
