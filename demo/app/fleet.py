"""Starts, watches, kills (on request) and replaces the worker processes.

The page's view has two sources: this module knows its processes, and PostgreSQL knows which
session, named after its worker, holds the advisory lock of each partition.

Invariant: requests identify a worker by name, never by process id, and the fleet looks it up among
its own processes, so no request can reach another process. A dead worker is replaced, under a new
name, only after ``REPLACE_SECONDS``, so that the page shows how the others take over.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asgiref.postgres import Database

from .bot import Bot
from .trace import Trace

PARTITIONS = 32
"""Enough for each of ``MOST_WORKERS`` workers to own some."""
TIMEOUT_SECONDS = 2
"""A frozen worker loses its partitions after this time; asgiref.postgres's default is 10 s."""
REPLACE_SECONDS = 4
LOOK_SECONDS = 0.25

_LOOK = """
SELECT p AS number, coalesce(o.owner, '') AS owner,
    ARRAY(SELECT split_part(game, ':', 1) FROM unnest($1::text[]) game
        WHERE "{schema}".partition_of(game) = p) AS users,
    (SELECT count(*) FROM "{schema}".messages m WHERE m.id / 100000000000000 = p) AS backlog
FROM generate_series(1, {partitions}) p
LEFT JOIN (
    SELECT l.objid::bigint AS partition, a.application_name AS owner
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.classid = '"{schema}"'::regnamespace AND l.granted
) o ON o.partition = p
ORDER BY p
"""


@dataclass(slots=True)
class Worker:
    """A worker process that this fleet started, and the partitions that it owned at the last look.

    It may own none while it runs: it is starting, is frozen, or lost the database.
    """

    name: str
    process: subprocess.Popen[bytes]
    last_alive: float = field(default_factory=time.monotonic)
    owned: list[int] = field(default_factory=list[int])


class Fleet:
    """Keeps ``count`` workers running; ``games`` is the SQLite file of the games."""

    def __init__(self, database: Database, games: Path, count: int, bot: Bot, trace: Trace) -> None:
        self._database, self._games, self._count = database, games, count
        self._bot, self._trace = bot, trace
        self._numbers, self._is_ready = itertools.count(1), False
        self._workers: list[Worker] = []
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
                if all(worker.owned for worker in self._workers):
                    self._is_ready = True
                    ready()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if self._connection is not None:
                self._connection.terminate()
            # The messages and the games end with the demo, so no worker needs to finish its own.
            for worker in self._workers:
                _end(worker)

    def _start_worker(self) -> Worker:
        name = f"worker-{next(self._numbers)}"
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
            if (code := worker.process.poll()) is None:
                worker.last_alive = time.monotonic()
            elif not self._is_ready:
                raise RuntimeError(f"{worker.name} ended at once, with exit code {code}")
            elif time.monotonic() - worker.last_alive >= REPLACE_SECONDS:
                _end(worker)
                self._workers[place] = new = self._start_worker()
                start = f"{new.name} (pid {new.process.pid}) starts"
                self._tell(f"{start} in place of {worker.name}.")

    async def _look(self) -> None:
        """Ask PostgreSQL for the partitions, and show the page who owns them."""
        query = _LOOK.format(schema=self._database.schema, partitions=PARTITIONS)
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._database.connect("the demo's page")
            games = [scope["game"] for scope in self._bot.scopes.copy().values()]
            rows = await self._connection.fetch(query, games)
        except Exception:  # the driver raises many kinds; after each one, try again later
            return
        workers = list[dict[str, Any]]()
        for each in self._workers:
            owned = [row["number"] for row in rows if row["owner"] == each.name]
            gained = [str(number) for number in owned if number not in each.owned]
            if gained and self._is_ready:
                self._tell(f"{each.name} took over these partitions: {', '.join(gained)}.")
            each.owned = owned
            is_dead = each.process.poll() is not None
            workers.append({"name": each.name, "pid": each.process.pid, "is_dead": is_dead})
        shown = {"workers": workers, "partitions": [dict(row) for row in rows], **self._bot.tally}
        if shown != self._shown:
            self._shown = shown
            self._trace.show("fleet", **shown)

    def _tell(self, text: str) -> None:
        self._trace.publish("news", time=time.strftime("%H:%M:%S"), text=text)


def _end(worker: Worker) -> None:
    """Kill a worker if it is running, and wait for it to exit."""
    with worker.process:
        worker.process.kill()
