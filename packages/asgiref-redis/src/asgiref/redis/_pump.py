"""Sends what all partitions have to say in as few round trips as can be.

One pipeline is on its way at a time. What is said meanwhile goes with the next one, so the more
there is to do, the more goes into one: nothing is delayed to wait for company. A round trip for
each message would cost some 100 µs of it, of which a batch of a hundred leaves 1 µs.

When a pipeline fails, nobody knows which of its scripts ran. Each station is told so, and says the
same again (see `_scripts` for why that does no harm). The next pipeline has half as many calls, and
more again after each that succeeds: where connections break after so many bytes, or time runs out
on a slow way, a large one would fail for ever, and grow meanwhile.
"""

import asyncio
import logging
from typing import Any, Protocol

from ._backoff import Backoff
from ._client import Call, Link
from ._errors import Unreachable

logger = logging.getLogger("asgiref.redis")

#: How many calls one pipeline has at most.
MOST = 1024


class Station(Protocol):
    """One end of a partition, which has at most one call on its way."""

    def next_call(self) -> Call | None:
        """What it has to say; None if there is nothing."""
        ...

    def answered(self, answer: Any) -> None:
        """The answer to its call, or a `Refused`."""
        ...

    def unanswered(self) -> None:
        """Whether its call was made is unknown."""
        ...


class Pump:
    """Carries the calls of stations."""

    def __init__(self, link: Link, replicas: int = 0) -> None:
        self._link = link
        self._replicas = replicas
        self._marked: dict[Station, None] = {}
        self._wake = asyncio.Event()
        self._limit = MOST

    def mark(self, station: Station) -> None:
        """``station`` has, or may have, something to say."""
        self._marked[station] = None
        self._wake.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        backoff = Backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            calls = self._next_calls()
            if not calls:
                continue
            try:
                answers = await self._link.run([call for _, call in calls], self._replicas)
            except Unreachable as error:
                self._limit = max(1, len(calls) // 2)
                seconds = backoff.next()
                logger.warning("%s Trying again in %.1f s.", error, seconds)
                for station, _ in calls:
                    station.unanswered()
                    self.mark(station)
                await asyncio.sleep(seconds)
            else:
                backoff.reset()
                self._limit = min(MOST, 2 * self._limit)
                for (station, _), answer in zip(calls, answers, strict=True):
                    station.answered(answer)

    def _next_calls(self) -> list[tuple[Station, Call]]:
        calls: list[tuple[Station, Call]] = []
        while self._marked and len(calls) < self._limit:
            station = next(iter(self._marked))
            del self._marked[station]
            call = station.next_call()
            if call is not None:
                calls.append((station, call))
        if self._marked:
            self._wake.set()
        return calls
