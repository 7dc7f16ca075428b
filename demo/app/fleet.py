"""Starts, watches, kills (on request) and replaces the worker processes.

The page's view has two sources: this module knows its processes, and PostgreSQL knows which
session, named like its worker, holds the advisory lock of each partition. Both form one
``FleetSeen``, which is published on every change; a new owner of a partition is also news.

Rules: everything runs on the fleet's own loop; other threads may call ``stop`` and ``kill``.
Requests identify a worker by name, never by process id, and the fleet looks the name up among its
own processes, so no request can reach any other process. A dead worker is replaced only after
``REPLACE_SECONDS``, so that the page shows how the others take over; the new worker has a new name.
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
from typing import Any

from asgiref.postgres import Database

from .fleet_bot import FleetBot
from .fleet_facts import PARTITIONS, REPLACE_SECONDS
from .irc import fold
from .pieces import PieceFailed
from .trace import FleetPartition, FleetSeen, FleetWorker, News, Trace

LOOK_SECONDS = 0.25
END_SECONDS = 8.0
_APP_PARENT = Path(__file__).resolve().parents[1]

_LOOK = """
SELECT p AS number, coalesce(owner.name, '') AS owner,
    (SELECT count(*) FROM "{schema}".messages m WHERE m.id / 100000000000000 = p) AS backlog
FROM generate_series(1, {partitions}) p LEFT JOIN (
    SELECT l.objid::bigint AS partition, a.application_name AS name
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.classid = '"{schema}"'::regnamespace AND l.granted
) owner ON owner.partition = p ORDER BY p
"""
_PARTITIONS_OF = 'SELECT id, "{schema}".partition_of(id) FROM unnest($1::text[]) id'


class Life(StrEnum):
    """The state of a worker process, as seen by the fleet."""

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
    """A piece that keeps ``count`` workers running."""

    name = "fleet"

    def __init__(
        self, database: Database, data: Path, count: int, bot: FleetBot, trace: Trace
    ) -> None:
        self._ownership = Ownership(database)
        self._database = database
        self._data = data.resolve()  # workers have another working directory
        self._count = count
        self._bot = bot
        self._trace = trace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = False
        self._started = 0
        self._workers: list[Worker] = []
        self._seen: FleetSeen | None = None

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Run on this thread; call ``ready`` once every worker owns some partitions."""
        try:
            asyncio.run(self._run(ready))
        finally:
            self._end_workers()

    def stop(self) -> None:
        """Let the workers finish their current messages, and end them; safe from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the piece has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def kill(self, name: str) -> bool:
        """Kill a worker like ``kill -9``, from any event loop; return whether it was running."""
        if self._loop is None:
            return False
        killing = asyncio.run_coroutine_threadsafe(self._kill(name), self._loop)
        return await asyncio.wrap_future(killing)

    async def _kill(self, name: str) -> bool:
        worker = next((each for each in self._workers if each.name == name), None)
        if worker is None or worker.process.poll() is not None:
            return False
        worker.process.kill()
        self._tell(f"kill -9 {worker.process.pid}: {name} is dead; PostgreSQL releases its locks.")
        return True

    async def _run(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._trace.name_loop("the fleet's loop")
        self._workers = [self._start_worker() for _ in range(self._count)]
        async with contextlib.aclosing(self._ownership):
            while not self._stopping.is_set():
                self._look_at_processes()
                self._note_owners(await self._ownership.look(self._bot.tally.users))
                self._publish()
                if not self._ready and self._all_own_some():
                    self._ready = True
                    ready()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LOOK_SECONDS)

    # The processes

    def _start_worker(self) -> Worker:
        self._started += 1
        name = f"worker-{self._started}"
        command = [sys.executable, "-m", "asgiref.postgres", "worker", "app.fleet_worker:game"]
        command += ["--name", name, "--schema", self._database.schema, "--log-level", "WARNING"]
        command += ["--timeout", str(self._database.timeout), "--shutdown-timeout", "3"]
        variables = {
            "ASGIREF_POSTGRES_DATABASE": self._database.url or "",
            "ASGIREF_DEMO_DATA": str(self._data),
        }
        process = subprocess.Popen(
            command,
            cwd=_APP_PARENT,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must reach only the demo, which stops in order
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
        """Ask all workers to end, so that they release their partitions; kill those that do not."""
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

    # The view of PostgreSQL

    def _note_owners(self, moves: Sequence[tuple[str, str, FleetPartition]]) -> None:
        owners = {each.owner for each in self._ownership.partitions}
        for worker in self._workers:
            if worker.life is not Life.ENDED and worker.name in owners:
                worker.life = Life.WORKING
            elif worker.life is Life.WORKING:
                worker.life = Life.SILENT  # for example stopped, or cut off from the database
        grouped: dict[tuple[str, str], list[FleetPartition]] = defaultdict(list)
        for before, owner, partition in moves if self._ready else ():
            grouped[before, owner].append(partition)
        for (before, owner), partitions in grouped.items():
            self._tell_move(before, owner, partitions)

    def _tell_move(self, before: str, owner: str, partitions: Sequence[FleetPartition]) -> None:
        users = [user for partition in partitions for user in partition.users]
        what = _counted("partition", [each.number for each in partitions])
        if users:
            what += f" with {_counted('scope', users)}"
        alive = any(each.name == before and each.life is Life.WORKING for each in self._workers)
        if alive:
            self._tell(f"{before} hands {what} over to {owner}.")
        else:
            self._tell(f"{owner} takes {what} over from {before}, and starts with what waits.")

    def _all_own_some(self) -> bool:
        """Whether every partition has an owner, and every worker owns a partition."""
        owners = {each.owner for each in self._ownership.partitions}
        return owners == {worker.name for worker in self._workers}

    # The view of the page

    def _publish(self) -> None:
        tally = self._bot.tally
        workers = tuple(
            FleetWorker(each.name, each.process.pid, each.life.value) for each in self._workers
        )
        seen = FleetSeen(
            workers,
            self._ownership.partitions,
            tally.asked,
            tally.answered,
            tally.redelivered,
            tally.repeated,
        )
        if seen != self._seen:
            self._seen = seen
            self._trace.show(seen)

    def _tell(self, text: str) -> None:
        self._trace.publish(News(time.strftime("%H:%M:%S"), text))


class Ownership:
    """Queries the owners over one connection; ``partitions`` is the latest result."""

    def __init__(self, database: Database) -> None:
        self.partitions: tuple[FleetPartition, ...] = ()
        self._database = database
        self._connection: Any = None
        self._places: dict[str, int] = {}
        self._owners: dict[int, str] = {}

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def look(self, users: Sequence[str]) -> list[tuple[str, str, FleetPartition]]:
        """Query again; return the old owner, the new owner and the partition for each change.

        While the database is unreachable, the latest result stays.
        """
        try:
            rows = await self._ask(users)
        except Exception:  # the driver's many errors all mean: try again later
            self._connection = None
            return []
        self.partitions = tuple(
            FleetPartition(number, owner, backlog, self._users_in(number, users))
            for number, owner, backlog in rows
        )
        moves = []
        for each in self.partitions:
            before = self._owners.get(each.number, "")
            if each.owner and each.owner != before:
                self._owners[each.number] = each.owner
                if before:
                    moves.append((before, each.owner, each))
        return moves

    async def _ask(self, users: Sequence[str]) -> Any:
        schema = self._database.schema
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect("the demo's page")
        new = [fold(user) for user in users if fold(user) not in self._places]
        if new:
            rows = await self._connection.fetch(_PARTITIONS_OF.format(schema=schema), new)
            self._places |= {row[0]: row[1] for row in rows}
        return await self._connection.fetch(_LOOK.format(schema=schema, partitions=PARTITIONS))

    def _users_in(self, number: int, users: Sequence[str]) -> tuple[str, ...]:
        return tuple(user for user in users if self._places.get(fold(user)) == number)


def _counted(noun: str, things: Sequence[object]) -> str:
    plural = "" if len(things) == 1 else "s"
    return f"{noun}{plural} {', '.join(map(str, things))}"


def _close_stdin(worker: Worker) -> None:
    if worker.process.stdin is not None:
        worker.process.stdin.close()
