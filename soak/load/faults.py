"""Clients that misbehave, and requests that make handlers fail.

Each kind knows which log records it causes. A client that leaves causes no record, unless a view
raises the OSError that it gets: clients leave all the time, and that is not an error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import h11

from .http import Connection
from .kinds import Ask, Kind, Outcome, Unexpected, expect

Fault = Callable[[Ask, Connection], Awaitable[Outcome]]


def fault(name: str, do: Fault, *, weight: int = 1, receive_buffer: int | None = None) -> Kind:
    """Make a kind with its own connection, which is closed at the end."""

    async def with_connection(ask: Ask) -> Outcome:
        connection = await Connection.open(ask.port, receive_buffer=receive_buffer)
        try:
            return await do(ask, connection)
        finally:
            connection.vanish(reset=ask.heads())

    return Kind(name, weight, with_connection)


def raising(path: str, logger: str, exception: str = "OnPurpose") -> Kind:
    """Make a kind that causes status 500 and one log record."""

    async def do(ask: Ask, connection: Connection) -> Outcome:
        ask.causes(logger, exception)
        return expect(await connection.ask("GET", path, ask.headers), 500)

    return fault(path.strip("/").replace("/", "-"), do)


async def raise_midway(ask: Ask, connection: Connection) -> Outcome:
    """Expect the server to close the connection, because it cannot send an error any more."""
    ask.causes("uvicorn.error", "OnPurpose")
    try:
        answer = await connection.ask("GET", "/flask/raise-midway", ask.headers)
    except h11.RemoteProtocolError:
        return Outcome.ANSWERED
    raise Unexpected(f"a broken response looked whole: {answer.status}")


async def raise_in_bot(ask: Ask, connection: Connection) -> Outcome:
    ask.causes("asgiref.server", "OnPurpose")
    scope = hash(ask.mark) % 60
    answer = await connection.ask("GET", f"/bot/{scope}/raise", ask.headers)
    return expect(answer, 200, b"raised")


async def garbage(ask: Ask, connection: Connection) -> Outcome:
    """Send bytes that are not HTTP: they never become a request, so the log has no mark."""
    ask.mark = ""
    ask.causes("uvicorn.error", "")
    await connection.write_raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    if not (await connection.read_raw()).startswith(b"HTTP/1.1 400"):
        raise Unexpected("what is no HTTP was not answered with 400")
    return Outcome.ANSWERED


async def half_a_head(ask: Ask, connection: Connection) -> Outcome:
    await connection.write_raw(b"GET /flask/hello HTTP/1.1\r\nHost: x\r\nX-Ha")
    return Outcome.CUT


def vanishing_before_the_answer(path: str) -> Fault:
    async def do(ask: Ask, connection: Connection) -> Outcome:
        await connection.begin("GET", path, ask.headers, 0)
        await asyncio.sleep(0.03)
        return Outcome.CUT

    return do


def vanishing_midway(path: str) -> Fault:
    """Leave with nearly all of 64 MB unread, more than the server can have sent."""

    async def do(ask: Ask, connection: Connection) -> Outcome:
        await connection.begin("GET", f"{path}/1000", ask.headers, 0)
        for _ in range(5):
            if not await connection.read_raw():
                raise Unexpected("the server closed before the client did")
        return Outcome.CUT

    return do


async def cut_order(ask: Ask, connection: Connection) -> Outcome:
    """Cut an order's body: Django reads it all before it calls a view, so no row may exist."""
    await connection.begin("POST", "/django/order", ask.headers, 1_000_000)
    await connection.upload(os.urandom(400_000))
    return Outcome.CUT


async def cut_upload(ask: Ask, connection: Connection) -> Outcome:
    """Cut an upload that the view is reading: the view raises OSError, which Flask logs."""
    ask.causes("site_under_test.flask_part", "ClientDisconnected")
    await connection.begin("POST", "/flask/digest", ask.headers, 1_000_000)
    await connection.upload(os.urandom(400_000))
    return Outcome.CUT


async def order_and_leave(ask: Ask, connection: Connection) -> Outcome:
    """Send a whole order and leave before the answer: a complete row may exist, or none."""
    ask.ledger.orders_cut.append(ask.mark)
    await connection.begin("POST", "/django/order", ask.headers, 1000)
    await connection.upload(os.urandom(1000))
    return Outcome.CUT


FAULTS = [
    raising("/flask/raise", "site_under_test.flask_part"),
    raising("/django/raise", "django.request"),
    raising("/django/async-raise", "django.request"),
    raising("/django/raise-in-middleware", "django.request"),
    raising("/raise", "uvicorn.error"),
    raising("/tasks/cancel-me", "uvicorn.error", "CancelledError"),
    fault("raise-midway", raise_midway),
    fault("raise-in-bot", raise_in_bot),
    fault("garbage", garbage),
    fault("half-a-head", half_a_head),
    fault("vanish-flask-slow", vanishing_before_the_answer("/flask/slow")),
    fault("vanish-django-slow", vanishing_before_the_answer("/django/slow")),
    fault("vanish-flask-download", vanishing_midway("/flask/download"), receive_buffer=65536),
    fault("vanish-django-stream", vanishing_midway("/django/stream"), receive_buffer=65536),
    fault("cut-flask-upload", cut_upload),
    fault("cut-django-order", cut_order),
    fault("order-and-leave", order_and_leave),
]
