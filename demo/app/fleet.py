"""Starts, watches, kills (on request) and replaces the worker processes.

The page's view has two sources: this module knows its processes, and PostgreSQL knows which
session, named after its worker, holds the advisory lock of each partition.

Invariant: requests identify a worker by name, never by process id, and the fleet looks it up among
its own processes, so no request can reach another process. A dead worker is replaced, under a new
name, only after ``REPLACE_SECONDS``, so that the page shows how the others take over.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from asgiref.postgres import Database

from .bot import Bot
from .trace import Kind, Trace

PARTITIONS = 32
"""Enough for each of ``MOST_WORKERS`` workers to own some."""
TIMEOUT_SECONDS = 2
"""A frozen worker loses its partitions after this time; asgiref.postgres's default is 10 s."""
REPLACE_SECONDS = 4
LOOK_SECONDS = 0.25

_LOOK = """
SELECT p, coalesce(o.owner, ''), coalesce(s.users, '{{}}'),
    (SELECT count(*) FROM "{schema}".messages m WHERE m.id / 100000000000000 = p)
FROM generate_series(1, {partitions}) p
LEFT JOIN (
    SELECT l.objid::bigint AS partition, a.application_name AS owner
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.classid = '"{schema}"'::regnamespace AND l.granted
) o ON o.partition = p
LEFT JOIN (
    SELECT "{schema}".partition_of(game) AS partition, array_agg(split_part(game, ':', 1)) AS users
    FROM unnest($1::text[]) game GROUP BY 1
) s ON s.partition = p
ORDER BY p
"""


class Life(StrEnum):
    """The state of a worker process, as seen by the fleet."""

    WORKING = "works"
    IDLE = "idle"  # it owns no partition: it is starting, is frozen, or lost the database
    ENDED = "ended"


@dataclass(slots=True)
class Worker:
    """A worker process that this fleet started."""

    name: str
    process: subprocess.Popen[bytes]
    life: Life = Life.IDLE
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, its owner (or ""), its users, and its number of unacknowledged messages."""

    number: int
    owner: str
    users: list[str]
    backlog: int


class Fleet:
    """Keeps ``count`` workers running; ``games`` is the SQLite file of the games."""

    def __init__(self, database: Database, games: Path, count: int, bot: Bot, trace: Trace) -> None:
        self._database, self._games, self._count = database, games, count
        self._bot, self._trace = bot, trace
        self._started, self._is_ready = 0, False
        self._workers: list[Worker] = []
        self._partitions: list[Partition] = []
        self._owners: dict[int, str] = {}
        self._connection: Any = None
        self._shown: dict[str, Any] = {}

    def kill(self, name: str) -> bool:
        """Kill a worker like ``kill -9``, from any thread; return whether it was running."""
        worker = next((each for each in self._workers if each.name == name), None)
        if worker is None or worker.process.poll() is not None:
            return False
        worker.process.kill()
        self._tell(f"kill -9 {worker.process.pid}: {name} is dead; PostgreSQL releases its locks.")
        return True

    async def work(self, ready: Callable[[], None]) -> None:
        """Run until cancelled; call ``ready`` once every worker owns some partitions."""
        try:
            for _ in range(self._count):
                self._workers.append(self._start_worker())
            while True:
                self._replace_dead_workers()
                await self._look()
                self._show()
                if {each.owner for each in self._partitions} == {w.name for w in self._workers}:
                    self._is_ready = True
                    ready()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if self._connection is not None:
                self._connection.terminate()
            # The messages and the games end with the demo, so no worker needs to finish its own.
            for worker in self._workers:
                _end(worker)

    # The processes

    def _start_worker(self) -> Worker:
        self._started += 1
        name = f"worker-{self._started}"
        command = [sys.executable, "-m", "asgiref.postgres", "worker", "app.worker:game"]
        command += ["--name", name, "--schema", self._database.schema, "--log-level", "WARNING"]
        command += ["--timeout", str(self._database.timeout)]
        # The URL is in the environment, because every user of a machine can see command lines.
        url, games = self._database.url or "", str(self._games)
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, "ASGIREF_POSTGRES_DATABASE": url, "ASGIREF_DEMO_GAMES": games},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must reach only the demo, which stops in order
        )
        return Worker(name, process)

    def _replace_dead_workers(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.life is not Life.ENDED:
                if (code := worker.process.poll()) is not None:
                    if not self._is_ready:
                        raise RuntimeError(f"{worker.name} ended at once, with exit code {code}")
                    worker.life, worker.ended_at = Life.ENDED, time.monotonic()
                    _end(worker)
            elif time.monotonic() - worker.ended_at >= REPLACE_SECONDS:
                self._workers[place] = new = self._start_worker()
                start = f"{new.name} (pid {new.process.pid}) starts"
                self._tell(f"{start} in place of {worker.name}.")

    # The view of PostgreSQL

    async def _look(self) -> None:
        query = _LOOK.format(schema=self._database.schema, partitions=PARTITIONS)
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._database.connect("the demo's page")
            rows = await self._connection.fetch(query, self._bot.games)
        except Exception:  # the driver raises many kinds; after each one, try again later
            return
        self._partitions = [Partition(*row) for row in rows]
        owners = {each.owner for each in self._partitions}
        for worker in self._workers:
            if worker.life is not Life.ENDED:
                worker.life = Life.WORKING if worker.name in owners else Life.IDLE
        self._tell_moves()

    def _tell_moves(self) -> None:
        moved: dict[tuple[str, str], list[str]] = defaultdict(list)
        for each in self._partitions:
            before = self._owners.get(each.number, "")
            if each.owner not in ("", before):
                self._owners[each.number] = each.owner
                if before and self._is_ready:
                    moved[before, each.owner].append(str(each.number))
        for (before, owner), numbers in moved.items():
            noun = "partition" if len(numbers) == 1 else "partitions"
            self._tell(f"{owner} took over {noun} {', '.join(numbers)} from {before}.")

    # The view of the page

    def _show(self) -> None:
        bot = self._bot
        shown = {
            "workers": [
                {"name": each.name, "pid": each.process.pid, "life": each.life}
                for each in self._workers
            ],
            "partitions": [asdict(each) for each in self._partitions],
            "asked": bot.asked,
            "answered": bot.answered,
            "redelivered": bot.redelivered,
            "repeated": bot.repeated,
        }
        if shown != self._shown:
            self._shown = shown
            self._trace.show(Kind.FLEET, **shown)

    def _tell(self, text: str) -> None:
        self._trace.publish(Kind.NEWS, time=time.strftime("%H:%M:%S"), text=text)


def _end(worker: Worker) -> None:
    """Kill a worker if it is running, and wait for it to exit."""
    with worker.process:
        worker.process.kill()
