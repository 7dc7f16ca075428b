"""Runs the process under test, loads it, and measures: warm-up, stretches with pauses, the end.

After warm-up and at the end, the process stays idle until it has at most one thread more than at
the start. Idle threads of the bridge end after a minute and its loops after one or two, but its
thread for thread-sensitive code stays. In between are stretches of load of equal length; in a short
pause after each one, the process reports its counts. So no request is in flight during a
measurement, and measurements of one kind have equal conditions.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from load import drive
from records import Ledger, Problem, Snapshot, SoakRun

__all__ = ["Plan", "measure"]

#: Long enough for the requests in flight to end.
PAUSE_SECONDS = 3.0
LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The durations of a run in seconds. Warm-up takes a sixth of the load."""

    seconds: float
    #: The minimum and the maximum time of settling. asyncio drops its timers within the minimum;
    #: the idle threads and loops of the bridge end within the maximum.
    settling: tuple[float, float] = (40.0, 130.0)
    stretches: int = 8  #: of load, after warm-up
    leaks: tuple[str, ...] = ()  #: see ``site_under_test.asgi``


class Site:
    """The process under test, from start to end."""

    async def start(self, folder: Path, leaks: tuple[str, ...]) -> None:
        # Resource warnings are off by default; everything on standard error is a failure.
        command = [sys.executable, "-W", "always::ResourceWarning", "-m", "site_under_test"]
        variables = {"SOAK_FOLDER": str(folder), "SOAK_LEAK": " ".join(leaks)}
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.port: int = listener.getsockname()[1]
            with (folder / "stderr").open("w") as stderr:
                self._process = await asyncio.create_subprocess_exec(
                    *(*command, str(listener.fileno())),
                    cwd=Path(__file__).parent,
                    env={**os.environ, **variables},
                    pass_fds=[listener.fileno()],
                    stderr=stderr,
                )

    async def snapshot(self) -> Snapshot:
        """Return the process's own counts. They always include the request that asks for them."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT_SECONDS)) as session,
            session.get(f"http://127.0.0.1:{self.port}/probe") as answer,
        ):
            counts = await answer.json(content_type=None)
        mappings = {name: Counter(each) for name, each in counts.items() if isinstance(each, dict)}
        return Snapshot(**{**counts, **mappings})

    async def settled(self, threads: int, limits: tuple[float, float]) -> Snapshot:
        """Wait until few threads are left, at most for the longer limit."""
        least, most = limits
        say(f"settle, {least:.0f} to {most:.0f} s")
        await asyncio.sleep(least)
        await self.snapshot()  # collects garbage, so that threads held by it become idle
        process = psutil.Process(self._process.pid)
        for _ in range(round(most - least)):
            if process.num_threads() > threads:
                await asyncio.sleep(1)
        return await self.snapshot()

    async def end(self) -> int:
        """Ask the process to end, kill it if it does not, and return its exit status."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), LIMIT_SECONDS)
        self._process.kill()
        return await self._process.wait()


async def measure(plan: Plan, folder: Path) -> SoakRun:
    """Run the plan and return all measurements; the process writes its files to the folder."""
    site, ledger, pauses = Site(), Ledger(), list[Snapshot]()
    await site.start(folder, plan.leaks)
    try:
        started = await site.snapshot()
        say("warm-up")
        await drive(site.port, plan.seconds / 6, ledger)
        warm = await site.settled(started.threads + 1, plan.settling)
        for number in range(1, plan.stretches + 1):
            say(f"load, stretch {number} of {plan.stretches}")
            await drive(site.port, plan.seconds * 5 / 6 / plan.stretches, ledger)
            await asyncio.sleep(PAUSE_SECONDS)
            pauses.append(await site.snapshot())
        end = await site.settled(started.threads + 1, plan.settling)
    finally:
        status = await site.end()
        stderr = (folder / "stderr").read_text(errors="replace")
        print(stderr, end="", file=sys.stderr)
    lines = map(json.loads, (folder / "log.jsonl").read_text("utf-8").splitlines())
    log = [(Problem(*problem), text) for problem, text in lines]
    with closing(sqlite3.connect(folder / "orders.sqlite3")) as database:
        orders = [mark for (mark,) in database.execute("SELECT mark FROM orders_order")]
    return SoakRun(ledger, started, warm, pauses, end, log, orders, stderr, status)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
