"""Deals the kinds of requests to clients until the time is over, and records every outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

from records import Ledger

from .faults import FAULTS
from .http import Connection
from .kinds import Ask, Kind, Outcome
from .ordinary import ORDINARY
from .plain import ask_plainly
from .talk import TALK

#: The number of requests in flight at any time, without those of wrk.
CLIENTS = 12
#: An answer that takes longer counts as lost.
LIMIT_SECONDS = 60.0

KINDS = [*ORDINARY, *FAULTS, *TALK]


def dealt() -> Iterator[Kind]:
    """Yield kinds endlessly from shuffled decks that contain each kind as often as its weight."""
    deck = [kind for kind in KINDS for _ in range(kind.weight)]
    while True:
        random.shuffle(deck)
        yield from deck


async def drive(port: int, seconds: float) -> Ledger:
    """Send requests for this many seconds, wait for those in flight, and return the ledger."""
    ledger, deck, end = Ledger(), dealt(), time.monotonic() + seconds
    plain = asyncio.create_task(ask_plainly(port, seconds))
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(_client(port, ledger, deck, end))
    ledger.plain = await plain
    return ledger


async def _client(port: int, ledger: Ledger, deck: Iterator[Kind], end: float) -> None:
    kept = await Connection.open(port)
    try:
        while time.monotonic() < end:
            if not await _send(next(deck), port, ledger, kept):
                kept.vanish(reset=False)
                kept = await Connection.open(port)
    finally:
        await kept.close()


async def _send(kind: Kind, port: int, ledger: Ledger, kept: Connection) -> bool:
    """Send one request and record it. Return False if it failed and may have broken ``kept``."""
    ask = Ask(kind, port, ledger, kept)
    tally = ledger.tally(kind.name)
    tally.sent += 1
    began = time.perf_counter()
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            outcome = await kind.do(ask)
    except Exception as error:
        tally.failures.append(f"{ask.mark}: {type(error).__name__}: {error}")
        return False
    if outcome is Outcome.CUT:
        tally.cut += 1
        return True
    tally.answered += 1
    if kind.timed:
        ledger.latencies.append((time.time(), time.perf_counter() - began))
    return True
