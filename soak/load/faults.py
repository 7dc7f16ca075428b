"""Clients that misbehave, and requests that make handlers fail.

Each kind knows which log records it causes. A client that leaves causes no record, unless a view
raises the OSError that it gets: clients leave all the time, and that is not an error.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from records import Problem, RequestOutcome

from .ordinary import Ask, RequestKind


def raising(path: str, logger: str, exception: str = "OnPurpose") -> RequestKind:
    """Make a kind that causes status 500 and one log record."""

    async def send(ask: Ask) -> None:
        ask.causes(logger, exception)
        await ask.expect(path, status=500)

    return RequestKind(path, 1, send)


async def raise_midway(ask: Ask) -> None:
    """Expect the server to close the connection, because it cannot send an error any more."""
    ask.causes("uvicorn.error", "OnPurpose")
    try:
        await ask.expect("/flask/raise-midway")
    except aiohttp.ClientPayloadError:
        return
    raise AssertionError("a broken response looked whole")


async def raise_in_bot(ask: Ask) -> None:
    ask.causes("asgiref.server", "OnPurpose")
    await ask.expect(f"/bot/{hash(ask.mark) % 60}/raise", text="raised")


@asynccontextmanager
async def raw_connection(ask: Ask, sent: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """Connect and send; vanish at the end with a FIN or, like a crashed host, a RST."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.port)
    try:
        for start in range(0, len(sent), 10_000):
            writer.write(sent[start : start + 10_000])
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


def vanish(path: str, read: int = 0, logged: str = "") -> RequestKind:
    """Make a kind that leaves while the view sleeps, or after a few bytes of a long answer."""

    async def send(ask: Ask) -> None:
        if logged:
            ask.ledger.tolerated.add(Problem(ask.mark, logged, ""))
        async with raw_connection(ask, head(ask, "GET", path)) as reader:
            await (reader.readexactly(read) if read else asyncio.sleep(0.03))

    return RequestKind(f"vanish {path}", 1, send, RequestOutcome.CUT)


def cut_upload(path: str, announced: int, sent: int, note: Callable[[Ask], object]) -> RequestKind:
    """Make a kind that leaves after a part of the upload, or before the answer to all of it."""

    async def send(ask: Ask) -> None:
        note(ask)
        async with raw_connection(ask, head(ask, "POST", path, announced) + os.urandom(sent)):
            pass

    return RequestKind(f"cut {path}, {sent:,} bytes", 1, send, RequestOutcome.CUT)


def cut_off(ask: Ask) -> None:
    ask.causes(FLASK, "ClientDisconnected")


FLASK = "site_under_test.flask_part"
FAULTS = [
    raising("/flask/raise", FLASK),
    raising("/django/raise", "django.request"),
    raising("/django/async-raise", "django.request"),
    raising("/django/raise-in-middleware", "django.request"),
    raising("/raise", "uvicorn.error"),
    raising("/tasks/cancel-me", "uvicorn.error", "CancelledError"),
    RequestKind("raise-midway", 1, raise_midway),
    RequestKind("raise-in-bot", 1, raise_in_bot),
    RequestKind("garbage", 1, garbage),
    RequestKind("half-a-head", 1, half_a_head, RequestOutcome.CUT),
    vanish("/flask/slow"),
    vanish("/django/slow"),
    vanish("/flask/download/1000", read=300_000),
    # Django writes on until uvicorn notices, and asyncio logs that.
    vanish("/django/stream/1000", read=300_000, logged="asyncio"),
    # The view reads the upload: it raises OSError, which Flask logs.
    cut_upload(
        "/flask/digest", 10**6, 400_000, lambda ask: ask.causes(FLASK, "ClientDisconnected")
    ),
    # Django reads the whole body before it calls a view, so no row may exist.
    cut_upload("/django/order", 10**6, 400_000, lambda ask: None),
    # A complete row may exist, or none.
    cut_upload("/django/order", 1000, 1000, lambda ask: ask.ledger.orders_cut.add(ask.mark)),
]
