"""The worker processes: started, watched, killed at the press of a button, and replaced.

What the page shows comes from two sides: the processes are this module's own, and who holds which
partition is what ``asgiref.redis.status`` says, asked several times a second. Both go into one
``FleetSeen``, published when it changes; a partition that has got another holder is also news.

Rules: everything runs on the fleet's own loop; ``stop`` and ``kill`` may be called from elsewhere.
A worker is named, never numbered by the system: what a name stands for is looked up here, among the
processes that this fleet started and has not reaped, so no request can reach any other process. A
worker that ended, whoever ended it, keeps its place for ``REPLACE_SECONDS``, which is longer than
the lease: its partitions are seen to go to the others first. The new one has a new name, since a
lease belongs to a name, and the dead one's may not have run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from asgiref.redis import PartitionStatus, RedisServerError, Status, status

from .fleet_bot import FleetBot, Tally
from .fleet_facts import CONNECTION, GROUP, LEASE_SECONDS, REPLACE_SECONDS
from .pieces import PieceFailed
from .trace import FleetPartition, FleetSeen, FleetWorker, News, Trace

LOOK_SECONDS = 0.25
END_SECONDS = 8.0
_APP_PARENT = Path(__file__).resolve().parents[1]


class Life(StrEnum):
    """What a worker process is doing, as far as can be seen from here."""

    STARTING = "starts"
    WORKING = "works"
    SILENT = "silent"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process that this fleet started."""

    name: str
    process: subprocess.Popen[bytes]
    life: Life = Life.STARTING
    ended_at: float = 0.0


class Fleet:
    """Keeps ``count`` workers at work; a piece."""

    name = "fleet"

    def __init__(self, url: str, data: Path, count: int, bot: FleetBot, trace: Trace) -> None:
        self._url = url
        self._data = data.resolve()  # workers have another working directory
        self._count = count
        self._bot = bot
        self._trace = trace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = False
        self._started = 0
        self._workers: list[Worker] = []
        self._status: Status | None = None
        self._holders: dict[int, str] = {}
        self._seen: FleetSeen | None = None

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Run on this thread; calls ``ready`` once every worker holds a part of the scopes."""
        try:
            asyncio.run(self._run(ready))
        finally:
            self._end_workers()

    def stop(self) -> None:
        """Let the workers finish what they have in hand, and end them; safe from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def kill(self, name: str) -> bool:
        """Kill a worker as ``kill -9`` does; from any event loop. False if no such one runs."""
        if self._loop is None:
            return False
        killing = asyncio.run_coroutine_threadsafe(self._kill(name), self._loop)
        return await asyncio.wrap_future(killing)

    async def _kill(self, name: str) -> bool:
        worker = next((each for each in self._workers if each.name == name), None)
        if worker is None or worker.process.poll() is not None:
            return False
        worker.process.kill()
        self._tell(f"kill -9 {worker.process.pid}: {name} is dead; its lease is not renewed.")
        return True

    async def _run(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._trace.name_loop("the fleet's loop")
        self._workers = [self._start_worker() for _ in range(self._count)]
        while not self._stopping.is_set():
            self._look_at_processes()
            await self._look_at_redis()
            self._publish()
            if not self._ready and self._all_hold_some():
                self._ready = True
                ready()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_SECONDS)

    # The processes

    def _start_worker(self) -> Worker:
        self._started += 1
        name = f"worker-{self._started}"
        process = subprocess.Popen(
            [sys.executable, "-m", "app.fleet_worker", name, self._data, str(LEASE_SECONDS)],
            cwd=_APP_PARENT,
            env={**os.environ, "ASGIREF_REDIS_URL": self._url},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the demo's alone, which ends things in order
        )
        return Worker(name, process)

    def _look_at_processes(self) -> None:
        now = time.monotonic()
        for place, worker in enumerate(self._workers):
            if worker.life is Life.ENDED:
                if now - worker.ended_at >= REPLACE_SECONDS:
                    self._workers[place] = new = self._start_worker()
                    start = f"{new.name} (pid {new.process.pid}) starts"
                    self._tell(f"{start} in the place of {worker.name}.")
            elif (code := worker.process.poll()) is not None:
                if not self._ready:
                    raise PieceFailed(f"{worker.name} ended at once, with exit code {code}")
                worker.life, worker.ended_at = Life.ENDED, now
                _close_stdin(worker)

    def _end_workers(self) -> None:
        """Ask all to end, so that they hand over what they hold; kill who does not."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            _close_stdin(worker)

    # What Redis knows

    async def _look_at_redis(self) -> None:
        with contextlib.suppress(RedisServerError):  # it is away: what was seen last stays
            self._status = await status(self._url, CONNECTION)
            self._note_live(self._status.workers.get(GROUP, ()))
            self._note_holders(self._status.partitions)

    def _note_live(self, names: Sequence[str]) -> None:
        for worker in self._workers:
            if worker.life is not Life.ENDED and worker.name in names:
                worker.life = Life.WORKING
            elif worker.life is Life.WORKING:
                worker.life = Life.SILENT  # it was stopped, say, or cannot reach Redis

    def _note_holders(self, partitions: Sequence[PartitionStatus]) -> None:
        moved: dict[tuple[str, str], list[int]] = defaultdict(list)
        for partition in partitions:
            holder = _holder(partition)
            before = self._holders.get(partition.number)
            if holder and holder != before:
                self._holders[partition.number] = holder
                if before:
                    moved[before, holder].append(partition.number)
        if self._ready:
            for (before, holder), numbers in moved.items():
                self._tell_move(before, holder, numbers)

    def _tell_move(self, before: str, holder: str, numbers: Sequence[int]) -> None:
        users = [user for user, number in self._bot.tally.scopes if number in numbers]
        what = _counted("partition", numbers)
        if users:
            what += f" with {_counted('scope', users)}"
        alive = any(each.name == before and each.life is Life.WORKING for each in self._workers)
        if alive:
            self._tell(f"{before} hands {what} over to {holder}.")
        else:
            self._tell(f"{holder} takes {what} over from {before}, and begins with what waits.")

    def _all_hold_some(self) -> bool:
        """Whether every partition has a holder, and every worker is one."""
        if self._status is None:
            return False
        holders = [_holder(partition) for partition in self._status.partitions]
        return set(holders) == {worker.name for worker in self._workers}

    # What the page sees

    def _publish(self) -> None:
        seen = self._look(self._bot.tally)
        if seen != self._seen:
            self._seen = seen
            self._trace.show(seen)

    def _look(self, tally: Tally) -> FleetSeen:
        workers = tuple(
            FleetWorker(each.name, each.process.pid, each.life.value) for each in self._workers
        )
        found = self._status.partitions if self._status else ()
        partitions = tuple(_partition(each, tally) for each in found)
        return FleetSeen(workers, partitions, tally.asked, tally.answered, tally.repeated)

    def _tell(self, text: str) -> None:
        self._trace.publish(News(time.strftime("%H:%M:%S"), text))


def _holder(partition: PartitionStatus) -> str:
    return next((each.holder or "" for each in partition.groups if each.group == GROUP), "")


def _partition(partition: PartitionStatus, tally: Tally) -> FleetPartition:
    group = next((each for each in partition.groups if each.group == GROUP), None)
    users = tuple(user for user, number in tally.scopes if number == partition.number)
    if group is None:
        return FleetPartition(partition.number, "", 0, 0, 0, users)
    numbers = (group.lag, group.pending, group.redelivered)
    return FleetPartition(partition.number, group.holder or "", *numbers, users)


def _counted(noun: str, things: Sequence[object]) -> str:
    plural = "" if len(things) == 1 else "s"
    return f"{noun}{plural} {', '.join(map(str, things))}"


def _close_stdin(worker: Worker) -> None:
    if worker.process.stdin is not None:
        worker.process.stdin.close()
