"""Requests of well-behaved clients, and their expected answers."""

from __future__ import annotations

import hashlib
import os

from .http import Connection
from .kinds import Ask, Kind, Outcome, expect

BLOCK = bytes(range(256)) * 256  # 64 kB
BLOCKS = 8


def get(path: str, pattern: str = "{mark}", repeated: int = 1) -> Kind:
    """Make a kind whose answer is the pattern with the request's mark in it."""

    async def do(ask: Ask) -> Outcome:
        answer = await ask.connection.ask("GET", path, ask.headers)
        return expect(answer, 200, pattern.format(mark=ask.mark).encode())

    return Kind(path.strip("/").replace("/", "-"), repeated, do, timed=True)


def upload(path: str, size: int, repeated: int, *, is_order: bool) -> Kind:
    async def do(ask: Ask) -> Outcome:
        body = os.urandom(size)
        if is_order:
            # Until the answer arrives, the order may or may not have been accepted.
            ask.ledger.orders_cut.append(ask.mark)
        answer = await ask.connection.ask("POST", path, ask.headers, body)
        digest = hashlib.sha256(ask.mark.encode() + body).hexdigest().encode()
        outcome = expect(answer, 200, digest)
        if is_order:
            ask.ledger.orders_cut.remove(ask.mark)
            ask.ledger.orders_answered.append(ask.mark)
        return outcome

    return Kind(path.strip("/").replace("/", "-"), repeated, do, timed=True)


def download(path: str) -> Kind:
    async def do(ask: Ask) -> Outcome:
        answer = await ask.connection.ask("GET", f"{path}/{BLOCKS}", ask.headers)
        return expect(answer, 200, BLOCK * BLOCKS)

    return Kind(path.strip("/").replace("/", "-"), 4, do, timed=True)


def slow_reader(path: str) -> Kind:
    async def do(ask: Ask) -> Outcome:
        connection = await Connection.open(ask.port, receive_buffer=16 * 1024)
        try:
            await connection.begin("GET", f"{path}/{BLOCKS * 2}", ask.headers, 0)
            return expect(await connection.answer(pause=0.02), 200, BLOCK * BLOCKS * 2)
        finally:
            await connection.close()

    return Kind(f"slow-reader-{path.split('/')[1]}", 1, do)


CANCELLED = " ".join(
    (
        "while_it_runs",
        "before_its_first_step",
        "while_a_coroutine_runs_below",
        "by_a_timeout",
        "while_it_waits_for_its_thread",
    )
)
FORKED = " ".join(f"{{mark}}/{number}" for number in range(6))


async def ask_bot(ask: Ask) -> Outcome:
    scope = hash(ask.mark) % 60
    answer = await ask.connection.ask("GET", f"/bot/{scope}/shout", ask.headers)
    return expect(answer, 200, ask.mark.upper().encode())


ORDINARY = [
    get("/flask/hello", "Hello {mark}", 10),
    get("/flask/nested", repeated=6),
    get("/flask/async", repeated=4),
    get("/flask/thread", repeated=2),
    get("/flask/slow", repeated=2),
    get("/flask/fork", FORKED),
    get("/django/sync", "Hello {mark}", 8),
    get("/django/async", "Hello {mark}", 8),
    get("/django/read", repeated=6),
    get("/django/slow", repeated=2),
    get("/django/fork", FORKED),
    get("/tasks/cancel", CANCELLED, 2),
    upload("/django/order", 1000, 4, is_order=True),
    upload("/django/async-order", 100_000, 4, is_order=True),
    upload("/flask/digest", 500_000, 4, is_order=False),
    download("/flask/download"),
    download("/django/stream"),
    slow_reader("/flask/download"),
    slow_reader("/django/stream"),
    Kind("bot", 6, ask_bot, timed=True),
]
