"""The load: clients that send requests, misbehave, and record every outcome in a ledger.

Each request ends in exactly one of three ways: it was *answered* correctly; the client *cut* it or
broke it on purpose; or it *failed*. The ledger counts them, and notes each log record that the
process under test must write because of them. `ordinary`, `faults` and `talk` define the requests.
"""

import asyncio
import random
import time
from collections.abc import Iterator

import aiohttp
from records import Ledger, RequestOutcome

from .faults import FAULTS
from .ordinary import ORDINARY, Ask, RequestKind
from .talk import TALK

__all__ = ["drive"]

#: The number of requests in flight at any time.
CLIENTS = 16
#: An answer that takes longer counts as lost.
LIMIT_SECONDS = 60.0


def dealt() -> Iterator[RequestKind]:
    """Yield kinds endlessly from shuffled decks that contain each kind as often as its weight."""
    deck = [kind for kind in (*ORDINARY, *FAULTS, *TALK) for _ in range(kind.weight)]
    while True:
        random.shuffle(deck)
        yield from deck


async def drive(port: int, seconds: float, ledger: Ledger) -> None:
    """Send requests for this many seconds, and wait for those in flight."""
    deck, end = dealt(), time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            kind = next(deck)
            ask = Ask(kind.name, port, session, ledger)
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    await kind.send(ask)
                outcome = kind.outcome
            except Exception as error:
                outcome = RequestOutcome.FAILED
                ledger.failures.append(f"{ask.mark}: {error!r}")
            ledger.requests[kind.name, outcome] += 1

    unlimited, url = aiohttp.TCPConnector(limit=0), f"http://127.0.0.1:{port}"
    async with (
        aiohttp.ClientSession(url, connector=unlimited) as session,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(CLIENTS):
            clients.create_task(client())
