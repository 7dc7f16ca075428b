"""Sends what all partitions have to say in as few round trips as can be.

One pipeline is on its way to a server at a time. What is said meanwhile goes with the next one, so
the more there is to do, the more goes into one: nothing is delayed to wait for company. A round
trip for each message would cost some 100 µs of it, of which a batch of a hundred leaves 1 µs.

In a cluster each node has a lane of its own, so a node that is slow or away holds up nothing but
what is for it. Which node that is, is asked for anew whenever something is said; what a lane could
not deliver goes to the lane that is right by then.

When a pipeline fails, nobody knows which of its scripts ran. Each station is told so, and says the
same again (see `_scripts` for why that does no harm). The next pipeline has half as many calls, and
more again after each that succeeds: where connections break after so many bytes, or time runs out
on a slow way, a large one would fail for ever, and grow meanwhile.

When only some calls of a pipeline are not answered (their slot is on its way to another node), only
their stations wait before they are tried again; what is said to them meanwhile waits with them.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from ._backoff import Backoff
from ._client import Call, Link, Unanswered
from ._errors import Unreachable
from ._tasks import end

logger = logging.getLogger("asgiref.redis")

#: How many calls one pipeline has at most.
MOST = 1024


class Station(Protocol):
    """One end of a partition, which has at most one call on its way."""

    @property
    def place(self) -> str:
        """A key of the partition, which tells the node in a cluster."""
        ...

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
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None

    def mark(self, station: Station) -> None:
        """``station`` has, or may have, something to say."""
        node = self._link.node_of(station.place)
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = _Lane(self._link, self._replicas, self.mark)
            if self._failed is not None:
                self._start(lane)
        lane.mark(station)

    async def run(self) -> None:
        """Carry until cancelled, or until a station raises, and raise that."""
        self._failed = asyncio.get_running_loop().create_future()
        for lane in self._lanes.values():
            self._start(lane)
        try:
            await self._failed
        finally:
            self._failed = None  # what is marked from now on stays where it is
            await end(self._tasks)

    def _start(self, lane: "_Lane") -> None:
        task = asyncio.get_running_loop().create_task(lane.run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or self._failed is None:
            return
        failure = task.exception()
        if failure is not None and not self._failed.done():
            self._failed.set_exception(failure)


class _Lane:
    """What goes to one server."""

    def __init__(self, link: Link, replicas: int, mark: Callable[[Station], None]) -> None:
        self._link = link
        self._replicas = replicas
        self._mark_anew = mark
        self._marked: dict[Station, None] = {}
        self._wake = asyncio.Event()
        self._limit = MOST
        self._aside: set[Station] = set()
        self._patience = Backoff()

    def mark(self, station: Station) -> None:
        if station not in self._aside:
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
            answers = await self._answers(calls)
            missing = self._deliver(calls, answers)
            if len(missing) < len(calls):
                backoff.reset()
                self._limit = min(MOST, 2 * self._limit)
                self._set_aside(missing)
                continue
            self._limit = max(1, len(calls) // 2)
            seconds = backoff.next()
            logger.warning("%s Trying again in %.1f s.", answers[0], seconds)
            await asyncio.sleep(seconds)
            marked = {**self._marked, **missing}
            self._marked.clear()
            for station in marked:
                self._mark_anew(station)

    def _set_aside(self, missing: dict[Station, Unanswered]) -> None:
        if not missing:
            if not self._aside:
                self._patience.reset()
            return
        seconds = self._patience.next()
        logger.warning("%s Trying again in %.1f s.", next(iter(missing.values())), seconds)
        self._aside |= missing.keys()
        asyncio.get_running_loop().call_later(seconds, self._take_back, list(missing))

    def _take_back(self, stations: list[Station]) -> None:
        self._aside.difference_update(stations)
        for station in stations:
            self._mark_anew(station)

    async def _answers(self, calls: list[tuple[Station, Call]]) -> list[Any]:
        try:
            return await self._link.run([call for _, call in calls], self._replicas)
        except Unreachable as error:
            return [Unanswered(str(error))] * len(calls)

    def _deliver(
        self, calls: list[tuple[Station, Call]], answers: list[Any]
    ) -> dict[Station, Unanswered]:
        """Tell the stations; give those without an answer."""
        missing: dict[Station, Unanswered] = {}
        for (station, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, Unanswered):
                missing[station] = answer
                station.unanswered()
            else:
                station.answered(answer)
        return missing

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
