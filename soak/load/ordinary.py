"""What a request is, and the requests of well-behaved clients with their expected answers."""

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

import aiohttp
from records import Ledger, Problem, RequestOutcome

BLOCK = bytes(range(256)) * 256  # 64 kB
_numbers = count()


class Ask:
    """One request: its mark, and the means to send and record it."""

    def __init__(self, kind: str, port: int, session: aiohttp.ClientSession, ledger: Ledger):
        self.port, self.session, self.ledger = port, session, ledger
        self.mark = f"{kind}-{next(_numbers)}"
        self.headers = {"X-Soak-Mark": self.mark, "X-Soak-Kind": kind}

    def causes(self, logger: str, exception: str) -> None:
        """Note a record that the process under test must log, once."""
        self.ledger.caused[Problem(self.mark, logger, exception)] += 1

    async def expect(
        self, path: str, status: int = 200, text: str | None = None, body: bytes | None = None
    ) -> None:
        """GET or, with a body, POST; require this answer. A text of None matches any."""
        method = "GET" if body is None else "POST"
        async with self.session.request(method, path, headers=self.headers, data=body) as answer:
            found = await answer.text("utf-8", "replace")
        assert (answer.status, found) == (status, text or found), (answer.status, found[:200])


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A kind of request: a coroutine that sends one, and how many times each deck contains it."""

    name: str
    weight: int
    send: Callable[[Ask], Awaitable[None]]
    outcome: RequestOutcome = RequestOutcome.ANSWERED


def get(path: str, weight: int = 1, pattern: str = "{mark}") -> RequestKind:
    """Make a kind whose answer is the pattern with the request's mark in it."""

    async def send(ask: Ask) -> None:
        await ask.expect(path, text=pattern.format(mark=ask.mark))

    return RequestKind(path, weight, send)


def upload(path: str, size: int) -> RequestKind:
    async def send(ask: Ask) -> None:
        body, ledger = os.urandom(size), ask.ledger
        ledger.orders_cut.add(ask.mark)  # accepted or not, until the answer arrives
        digest = hashlib.sha256(ask.mark.encode() + body).hexdigest()
        await ask.expect(path, text=digest, body=body)
        ledger.orders_cut.remove(ask.mark)
        if path.endswith("order"):
            ledger.orders_answered.add(ask.mark)

    return RequestKind(path, 4, send)


def download(path: str, weight: int, blocks: int, *, slowly: bool = False) -> RequestKind:
    async def send(ask: Ask) -> None:
        body, buffer = b"", 16384 if slowly else 65536
        async with ask.session.get(path, headers=ask.headers, read_bufsize=buffer) as answer:
            if slowly and answer.connection and answer.connection.transport:
                # With a small buffer, the server soon notices that the client does not read.
                own = answer.connection.transport.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            async for piece in answer.content.iter_chunked(buffer):
                body += piece
                await asyncio.sleep(0.005 if slowly else 0)
        assert body == BLOCK * blocks, (answer.status, len(body))

    return RequestKind(path, weight, send)


CANCELLED = "before running waiting timeout below"
FORKED = " ".join(["{mark}"] * 6)
ORDINARY = [
    get("/flask/hello", 15, "Hello {mark}"),
    get("/flask/async", 10),
    get("/flask/thread", 2),
    get("/flask/slow", 2),
    get("/flask/fork", 2, FORKED),
    get("/django/sync", 13, "Hello {mark}"),
    get("/django/async", 19, "Hello {mark}"),
    get("/django/slow", 2),
    get("/tasks/cancel", 2, CANCELLED),
    get("/bot/hello", 6, "Hello {mark}"),
    upload("/django/order", 1000),
    upload("/django/async-order", 100_000),
    upload("/flask/digest", 500_000),
    download("/flask/download/8", 4, 8),
    download("/django/stream/8", 4, 8),
    download("/flask/download/16", 1, 16, slowly=True),
    download("/django/stream/16", 1, 16, slowly=True),
]
