"""The events that the page shows, with their threads and loops.

Rules: ``Trace`` is the only object that all pieces share. Any thread may publish; each subscriber
reads on its own event loop. Events are numbered under the lock, so that a browser that returns with
the number of its last event misses none that is still stored. A subscriber that falls behind does
not slow down publishers: it is dropped, and its browser reconnects and catches up.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import ClassVar, Protocol

REMEMBERED_EVENTS = 400
SUBSCRIBER_BACKLOG = 1000


class Kind(StrEnum):
    """The kinds of event; each is an event name of the page's event stream."""

    RAN = "ran"
    CHAT = "chat"
    HEARD = "heard"
    GUESTBOOK = "guestbook"
    FILE = "file"
    FLEET = "fleet"
    NEWS = "news"


@dataclasses.dataclass(frozen=True, slots=True)
class Where:
    """The thread, and the event loop and task if one runs there, that executed a piece of code."""

    thread: str
    thread_id: int
    loop: str
    task: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """A piece ran somewhere, for the ``count``-th time, on one of ``threads`` threads."""

    kind: ClassVar[Kind] = Kind.RAN
    piece: str
    where: Where
    count: int
    threads: int


@dataclasses.dataclass(frozen=True, slots=True)
class Chat:
    """A line between a user and the bot, from the bot's view; ``user`` names the scope."""

    kind: ClassVar[Kind] = Kind.CHAT
    user: str
    speaker: str
    text: str
    where: Where


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A line that reached a user of the page over that user's own IRC connection."""

    kind: ClassVar[Kind] = Kind.HEARD
    user: str
    speaker: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Signed:
    """A visitor signed the guestbook."""

    kind: ClassVar[Kind] = Kind.GUESTBOOK
    name: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """An upload was stored."""

    kind: ClassVar[Kind] = Kind.FILE
    name: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class FleetWorker:
    """A worker process of the fleet; ``life`` is one of the words of ``fleet.Life``."""

    name: str
    pid: int
    life: str


@dataclasses.dataclass(frozen=True, slots=True)
class FleetPartition:
    """A partition, its owner (empty if it has none) and the users whose scopes are in it.

    ``backlog`` messages are not acknowledged yet.
    """

    number: int
    owner: str
    backlog: int
    users: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class FleetSeen:
    """All workers and partitions, and the numbers of received and answered messages.

    ``redelivered`` counts answers to redelivered messages, and ``repeated`` those of them that the
    bot had already said.
    """

    kind: ClassVar[Kind] = Kind.FLEET
    workers: tuple[FleetWorker, ...]
    partitions: tuple[FleetPartition, ...]
    asked: int
    answered: int
    redelivered: int
    repeated: int


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """A change of the fleet; ``time`` is local time as text."""

    kind: ClassVar[Kind] = Kind.NEWS
    time: str
    text: str


Payload = Ran | Chat | Heard | Signed | Stored | FleetSeen | News


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A published payload with its number (1, 2, ...) and its JSON text."""

    number: int
    kind: Kind
    text: str


class Tracer(Protocol):
    """The part of the trace that most pieces need."""

    def ran(self, piece: str, where: Where | None = None) -> Where: ...

    def publish(self, payload: Payload) -> None: ...

    def name_loop(self, name: str) -> None: ...


@dataclasses.dataclass(slots=True)
class _Tally:
    count: int = 0
    threads: set[int] = dataclasses.field(default_factory=set)
    last: Event | None = None


@dataclasses.dataclass(slots=True, eq=False)
class _Subscriber:
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Event | None]
    dropped: bool = False

    def offer(self, event: Event | None) -> None:
        """Queue an event, or ``None`` for the end; runs on the subscriber's loop."""
        if event is not None and self.queue.qsize() >= SUBSCRIBER_BACKLOG:
            self.dropped, event = True, None
        self.queue.put_nowait(event)


class Trace:
    """The record of the demo: publish from any thread, subscribe from any event loop.

    >>> trace = Trace()
    >>> trace.ran("doctest").loop
    ''
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._remembered: deque[Event] = deque(maxlen=REMEMBERED_EVENTS)
        self._tallies: dict[str, _Tally] = {}
        self._latest: dict[Kind, Event] = {}
        self._subscribers: set[_Subscriber] = set()
        self._loop_names: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, str] = (
            weakref.WeakKeyDictionary()
        )
        self._closed = False

    def name_loop(self, name: str) -> None:
        """Give the running event loop the name that the page shows."""
        with self._lock:
            self._loop_names[asyncio.get_running_loop()] = name

    def here(self) -> Where:
        """Return where the caller runs; ``loop`` and ``task`` are empty in synchronous code."""
        thread = threading.current_thread()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return Where(thread.name, threading.get_native_id(), "", "")
        task = asyncio.current_task()
        with self._lock:
            name = self._loop_names.get(loop) or f"unnamed loop {id(loop):#x}"
        return Where(thread.name, threading.get_native_id(), name, task.get_name() if task else "")

    def ran(self, piece: str, where: Where | None = None) -> Where:
        """Record that ``piece`` runs here now, or that it ran in another process."""
        where = where or self.here()
        with self._lock:
            tally = self._tallies.setdefault(piece, _Tally())
            tally.count += 1
            tally.threads.add(where.thread_id)
            ran = Ran(piece, where, tally.count, len(tally.threads))
            # Not stored among the other events: these are so frequent that they would displace the
            # conversation, and only the latest of each piece matters.
            tally.last = self._announce(ran)
        return where

    def publish(self, payload: Payload) -> None:
        """Record an event, and send it to every subscriber."""
        with self._lock:
            self._remembered.append(self._announce(payload))

    def show(self, payload: Payload) -> None:
        """Send a state to every subscriber; only the latest of its kind is stored."""
        with self._lock:
            self._latest[payload.kind] = self._announce(payload)

    def _announce(self, payload: Payload) -> Event:
        self._number += 1
        event = Event(self._number, payload.kind, json.dumps(dataclasses.asdict(payload)))
        self._tell(event)
        return event

    def _tell(self, event: Event | None) -> None:
        for subscriber in self._subscribers:
            # If the loop is closed, its subscriber has ended.
            with contextlib.suppress(RuntimeError):
                subscriber.loop.call_soon_threadsafe(subscriber.offer, event)

    def _backlog(self, after: int) -> list[Event]:
        latest = [tally.last for tally in self._tallies.values() if tally.last is not None]
        known = [*self._remembered, *latest, *self._latest.values()]
        return sorted((e for e in known if e.number > after), key=lambda e: e.number)

    async def subscribe(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the stored events numbered above ``after``, then each new one as it happens.

        Ends when the trace closes, or when this subscriber falls too far behind. An ``after`` above
        all numbers so far comes from an earlier run of the demo and counts as 0.
        """
        subscriber = _Subscriber(asyncio.get_running_loop(), asyncio.Queue())
        with self._lock:
            backlog = self._backlog(after if after <= self._number else 0)
            self._subscribers.add(subscriber)
            if self._closed:
                subscriber.offer(None)
        try:
            for event in backlog:
                yield event
            while (event_or_end := await subscriber.queue.get()) is not None:
                yield event_or_end
        finally:
            with self._lock:
                self._subscribers.discard(subscriber)

    def close(self) -> None:
        """End all current and future subscriptions; safe from any thread and to repeat."""
        with self._lock:
            self._closed = True
            self._tell(None)
