"""A client at the raw ASGI level, which takes a server's steps one at a time."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


def http_scope(**changes: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 50000),
    }
    return scope | changes


@dataclass
class Exchange:
    """One call to an ASGI application. `send` blocks while `sends_open` is cleared."""

    application: Any
    scope: dict[str, Any] = field(default_factory=http_scope)

    def __post_init__(self) -> None:
        self.inbox: asyncio.Queue[Event] = asyncio.Queue()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.sends_open = asyncio.Event()
        self.sends_open.set()
        self.receives = 0
        self.receiving = asyncio.Condition()
        self.bytes_sent = 0
        self.send_begun = asyncio.Event()
        self.send_error: BaseException | None = None
        self.tasks_of_send: set[asyncio.Task[Any] | None] = set()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> "Exchange":
        self.task = asyncio.create_task(self.application(self.scope, self._receive, self._send))
        return self

    def feed(self, body: bytes = b"", more: bool = False) -> "Exchange":
        self.inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})
        return self

    def disconnect(self) -> "Exchange":
        self.inbox.put_nowait({"type": "http.disconnect"})
        return self

    async def event(self) -> Event:
        """Return the next event. If the application ends first, raise its exception."""
        getter = asyncio.create_task(self.events.get())
        assert self.task is not None
        await asyncio.wait([getter, self.task], return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        getter.cancel()
        self.task.result()
        raise AssertionError("the application ended without a further event")

    async def received(self, count: int) -> None:
        """Wait until `receive` was awaited this many times."""
        async with self.receiving:
            await self.receiving.wait_for(lambda: self.receives >= count)

    async def end(self) -> None:
        assert self.task is not None
        await self.task

    def sent(self) -> list[Event]:
        """The events that `event` has not returned yet."""
        return [self.events.get_nowait() for _ in range(self.events.qsize())]

    async def _receive(self) -> Event:
        async with self.receiving:
            self.receives += 1
            self.receiving.notify_all()
        return await self.inbox.get()

    async def _send(self, event: Event) -> None:
        self.send_begun.set()
        self.tasks_of_send.add(asyncio.current_task())
        await self.sends_open.wait()
        if self.send_error is not None:
            raise self.send_error
        await asyncio.sleep(0)  # let others run, as a real connection does
        self.bytes_sent += len(event.get("body", b""))
        self.events.put_nowait(event)


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    events: list[Event]


async def request(application: Any, bodies: Iterable[bytes] = (b"",), **scope: Any) -> Answer:
    """Send a whole request, and return the whole response."""
    exchange = Exchange(application, http_scope(**scope)).start()
    pieces = list(bodies)
    for number, piece in enumerate(pieces, 1):
        exchange.feed(piece, more=number < len(pieces))
    await exchange.end()
    events = exchange.sent()
    start, *rest = events
    assert start["type"] == "http.response.start"
    assert all(event["type"] == "http.response.body" for event in rest)
    assert not rest[-1].get("more_body")
    assert all(event["more_body"] for event in rest[:-1])
    body = b"".join(event.get("body", b"") for event in rest)
    return Answer(start["status"], start["headers"], body, events)
