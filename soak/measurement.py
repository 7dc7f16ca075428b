"""Runs the process under test, loads it, and measures: warm-up, stretches with pauses, the end.

After warm-up and at the end, the process stays idle until it has at most one thread more than at
the start. Idle threads of the bridge end after a minute and its loops after one or two, but its
thread for thread-sensitive code stays. In between are stretches of load of equal length; in a short
pause after each one, the process reports its counts. So no request is in flight during a
measurement, and measurements of one kind have equal conditions.
"""

import asyncio
import json
import os
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import aiohttp
import psutil
from load import drive
from records import Ledger, Problem, Snapshot, SoakRun

#: Long enough for the requests in flight to end.
PAUSE_SECONDS = 3.0
LIMIT_SECONDS = 60.0


STRETCHES = 8  #: of load, after warm-up
#: The minimum and maximum settling time. asyncio drops its timers within the minimum;
#: the idle threads and loops of the bridge end within the maximum.
SETTLING = (40.0, 130.0)


class Site:
    """The process under test, from start to end."""

    def __init__(self, folder: Path, leaks: Iterable[str]) -> None:
        # Resource warnings are off by default; everything on standard error is a failure.
        command = [sys.executable, "-W", "always::ResourceWarning", "-m", "site_under_test"]
        with (
            socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
            (folder / "stderr").open("w") as stderr,
        ):
            self.port: int = listener.getsockname()[1]
            self._process = psutil.Popen(
                [*command, str(listener.fileno())],
                cwd=Path(__file__).parent,
                env={**os.environ, "SOAK_FOLDER": str(folder), "SOAK_LEAK": " ".join(leaks)},
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
        return Snapshot(**{name: Counter(each) for name, each in counts.items()})

    async def settled(self, threads: int, limits: tuple[float, float]) -> Snapshot:
        """Wait for the shorter limit, and then for idle threads to end, up to the longer one."""
        least, most = limits
        say(f"settle, {least:.0f} to {most:.0f} s")
        await asyncio.sleep(least)
        await self.snapshot()  # collects garbage, so that threads held by it become idle
        for _ in range(round(most - least)):
            if self._process.num_threads() > threads:
                await asyncio.sleep(1)
        return await self.snapshot()

    def end(self) -> int:
        """Ask the process to end, kill it if it does not, and return its exit status."""
        self._process.terminate()
        try:
            return int(self._process.wait(LIMIT_SECONDS))
        except psutil.TimeoutExpired:
            self._process.kill()
            return int(self._process.wait())


async def measure(
    folder: Path,
    seconds: float,
    leaks: Iterable[str] = (),
    settling: tuple[float, float] = SETTLING,
) -> SoakRun:
    """Load a process for this time, a sixth of it as warm-up, and return all measurements.

    The process writes its files to the folder. It leaks the resources that `site_under_test.asgi`
    knows by these names.
    """
    site, ledger, pauses = Site(folder, leaks), Ledger(), list[Snapshot]()
    try:
        started = await site.snapshot()
        say("warm-up")
        await drive(site.port, seconds / 6, ledger)
        warm = await site.settled(started.counts["threads"] + 1, settling)
        for number in range(1, STRETCHES + 1):
            say(f"load, stretch {number} of {STRETCHES}")
            await drive(site.port, seconds * 5 / 6 / STRETCHES, ledger)
            await asyncio.sleep(PAUSE_SECONDS)
            pauses.append(await site.snapshot())
        end = await site.settled(started.counts["threads"] + 1, settling)
    finally:
        status = site.end()
        stderr = (folder / "stderr").read_text(errors="replace")
        print(stderr, end="", file=sys.stderr)
    lines = map(json.loads, (folder / "log.jsonl").read_text("utf-8").splitlines())
    log = [(Problem(*problem), text) for problem, text in lines]
    with closing(sqlite3.connect(folder / "orders.sqlite3")) as database:
        orders = [mark for (mark,) in database.execute("SELECT mark FROM orders_order")]
    return SoakRun(ledger, started, warm, pauses, end, log, orders, stderr, status)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
