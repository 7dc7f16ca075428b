"""Clients that misbehave, and requests that make handlers fail.

Each kind knows which log records it causes. A client that leaves causes no record, unless a view
raises the OSError that it gets: clients leave all the time, and that is not an error.
"""

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
from records import Problem, RequestOutcome

from .ordinary import Ask, RequestKind

Note = Callable[[Ask], object]


def raising(path: str, logger: str, exception: str = "OnPurpose", status: int = 500) -> RequestKind:
    """Make a kind that causes one log record, and an answer with this status."""

    async def send(ask: Ask) -> None:
        ask.causes(logger, exception)
        await ask.expect(path, status)

    return RequestKind(path, 1, send)


async def raise_midway(ask: Ask) -> None:
    """Expect the server to close the connection, because it cannot send an error any more."""
    ask.causes("uvicorn.error", "OnPurpose")
    with suppress(aiohttp.ClientPayloadError):
        await ask.expect("/flask/raise-midway")
        raise AssertionError("a broken response looked complete")


@asynccontextmanager
async def raw_connection(ask: Ask, sent: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """Connect and send; vanish at the end with a FIN or, like a crashed host, a RST."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.port)
    try:
        writer.write(sent)
        await writer.drain()
        yield reader
    finally:
        if random.random() < 0.5:
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def head(ask: Ask, method: str, path: str, length: int = 0) -> bytes:
    fields = {"Host": "soak", "Content-Length": length, **ask.headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {each}" for name, each in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def garbage(ask: Ask) -> None:
    """Send bytes that are not HTTP: they never become a request, so the log has no mark."""
    ask.mark = ""
    ask.causes("uvicorn.error", "")
    async with raw_connection(ask, b"\x16\x03\x01 this is no HTTP\r\n\r\n") as reader:
        assert (await reader.read(1000)).startswith(b"HTTP/1.1 400")


async def half_a_head(ask: Ask) -> None:
    async with raw_connection(ask, head(ask, "GET", "/flask/hello")[:-20]):
        pass


def leaving(
    path: str, announced: int = 0, sent: int = 0, read: int = 0, note: Note | None = None
) -> RequestKind:
    """Make a kind that leaves during its upload or the answer, or while the view works."""

    async def send(ask: Ask) -> None:
        if note:
            note(ask)
        method = "POST" if announced else "GET"
        request = head(ask, method, path, announced) + os.urandom(sent)
        async with raw_connection(ask, request) as reader:
            await reader.readexactly(read)
            await asyncio.sleep(0 if sent or read else 0.03)

    return RequestKind(f"leave {path} after {sent or read:,} bytes", 1, send, RequestOutcome.CUT)


def written_on(ask: Ask) -> None:
    """Tolerate a log record from asyncio: Django keeps writing until uvicorn notices the loss."""
    ask.ledger.tolerated.add(Problem(ask.mark, "asyncio", ""))


def cut_off(ask: Ask) -> None:
    """Expect Flask to log the OSError that the view gets from reading the upload."""
    ask.causes(FLASK, "ClientDisconnected")


def may_be_ordered(ask: Ask) -> None:
    ask.ledger.orders_cut.add(ask.mark)


FLASK = "site_under_test.flask_part"
FAULTS = [
    raising("/flask/raise", FLASK),
    raising("/django/raise", "django.request"),
    raising("/raise", "uvicorn.error"),
    raising("/tasks/cancel-me", "uvicorn.error", "CancelledError"),
    raising("/bot/raise", "asgiref.server", status=200),
    RequestKind("raise-midway", 1, raise_midway),
    RequestKind("garbage", 1, garbage, RequestOutcome.CUT),
    RequestKind("half-a-head", 1, half_a_head, RequestOutcome.CUT),
    leaving("/flask/slow"),
    leaving("/django/slow"),
    leaving("/flask/download/1000", read=300_000),
    leaving("/django/stream/1000", read=300_000, note=written_on),
    leaving("/flask/digest", 10**6, 400_000, note=cut_off),
    # Django reads the whole body before it calls a view, so no row may exist.
    leaving("/django/order", 10**6, 400_000),
    # A complete row may exist, or none.
    leaving("/django/order", 1000, 1000, note=may_be_ordered),
]
