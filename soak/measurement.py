"""Runs the two processes and measures: warm-up, stretches of load with pauses, and the end.

After warm-up and at the end, the process stays idle until it has at most one thread more than at
the start. Idle threads of the bridge end after a minute and its loops after one or two, but its
thread for thread-sensitive code stays. In between are stretches of load of equal length; in a short
pause after each one, the process reports its counts. So no request is in flight during a
measurement, and measurements of one kind have equal conditions. Under load, only the kernel's
figures are read.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import socket
import sqlite3
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from records import Ledger, Run, Sample, Snapshot, snapshot_from

HERE = Path(__file__).parent
#: Long enough for the requests in flight to end.
PAUSE_SECONDS = 3.0
#: The minimum and the maximum time of settling. asyncio drops its timers within the minimum; the
#: idle threads and loops of the bridge end within the maximum.
SETTLING_SECONDS = (40.0, 130.0)
START_SECONDS = 30.0
END_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The durations of a run in seconds. Warm-up is part of the load."""

    seconds: float
    settling: tuple[float, float] = SETTLING_SECONDS
    stretches: int = 8  #: of load, after warm-up
    leaks: tuple[str, ...] = ()  #: see ``site_under_test.leaks``

    @property
    def warm_up(self) -> float:
        return max(5.0, self.seconds / 6)

    @property
    def stretch(self) -> float:
        return max(2.0, (self.seconds - self.warm_up) / self.stretches)


class Site:
    """The process under test, from start to end."""

    def __init__(self, folder: Path, leaks: tuple[str, ...]) -> None:
        self.folder = folder
        self._leaks = " ".join(leaks)
        self._began = time.monotonic()

    async def start(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.port: int = listener.getsockname()[1]
            with (self.folder / "stderr").open("w") as stderr:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "site_under_test", str(listener.fileno())),
                    cwd=HERE,
                    env={
                        **os.environ,
                        "SOAK_FOLDER": str(self.folder),
                        "SOAK_LEAK": self._leaks,
                    },
                    pass_fds=[listener.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=stderr,
                )
        await asyncio.wait_for(self.ask(), START_SECONDS)

    def sample(self) -> Sample:
        of_process = Path(f"/proc/{self._process.pid}")
        status = dict(
            line.split(":", 1) for line in (of_process / "status").read_text().splitlines()
        )
        return Sample(
            self.seconds(),
            int(status["Threads"]),
            len(os.listdir(of_process / "fd")),
            int(status["VmRSS"].split()[0]),
        )

    async def ask(self) -> Snapshot:
        """Return the process's own counts. They always include the request that asks for them."""

        def get() -> dict[str, object]:
            url = f"http://127.0.0.1:{self.port}/probe"
            with urllib.request.urlopen(url, timeout=60) as file:
                answer: dict[str, object] = json.load(file)
                return answer

        snapshot = snapshot_from(await asyncio.to_thread(get))
        snapshot.seconds = self.seconds()
        return snapshot

    async def end(self) -> int:
        """Ask the process to end, kill it if it does not, and return its exit status."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def seconds(self) -> float:
        """Return the seconds since the start of the run."""
        return time.monotonic() - self._began


async def measure(plan: Plan, folder: Path) -> Run:
    """Run the plan and return all measurements; the processes write their files to the folder."""
    site, began = Site(folder, plan.leaks), time.time()
    say("start")
    await site.start()
    try:
        started, ledger, pauses = await site.ask(), Ledger(), []
        samples: list[Sample] = []
        loads: list[tuple[float, float]] = []
        watching = asyncio.create_task(_watch(site, samples))
        say(f"warm-up, {plan.warm_up:.0f} s")
        ledger.add(await _load(site, plan.warm_up, "w", loads))
        warm = await _settled(site, started, plan.settling)
        for number in range(1, plan.stretches + 1):
            say(f"load, stretch {number} of {plan.stretches}, {plan.stretch:.0f} s")
            ledger.add(await _load(site, plan.stretch, f"{number}", loads))
            await asyncio.sleep(PAUSE_SECONDS)
            pauses.append(await site.ask())
        end = await _settled(site, started, plan.settling)
        watching.cancel()
    finally:
        status = await site.end()
    return Run(
        began=began,
        seconds=plan.seconds,
        ledger=ledger,
        started=started,
        warm=warm,
        pauses=pauses,
        end=end,
        samples=samples,
        loads=loads,
        log=_log_of(folder),
        orders=_orders_of(folder),
        stderr=(folder / "stderr").read_text(errors="replace"),
        exit_status=status,
        machine=_machine(),
    )


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def _load(
    site: Site, seconds: float, prefix: str, loads: list[tuple[float, float]]
) -> Ledger:
    """Start a process that generates load; note the times, and return its ledger."""
    began = site.seconds()
    book = site.folder / f"ledger-{prefix}.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "load", str(site.port), str(seconds), f"{prefix}-", str(book)),
        cwd=HERE,
    )
    if await process.wait():
        raise SystemExit(f"the load ended with {process.returncode}")
    loads.append((began, site.seconds()))
    return Ledger.read(book)


async def _settled(site: Site, started: Snapshot, limits: tuple[float, float]) -> Snapshot:
    least, most = limits
    say(f"settle, {least:.0f} to {most:.0f} s")
    await asyncio.sleep(least)
    await site.ask()  # collects garbage, so that threads held by it become idle
    for _ in range(round(most - least)):
        if site.sample().threads <= started.threads + 1:
            break
        await asyncio.sleep(1)
    return await site.ask()


async def _watch(site: Site, samples: list[Sample]) -> None:
    while True:
        samples.append(site.sample())
        await asyncio.sleep(1)


def _log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _orders_of(folder: Path) -> list[str]:
    database = sqlite3.connect(folder / "orders.sqlite3")
    try:
        return [mark for (mark,) in database.execute("SELECT mark FROM orders_order")]
    finally:
        database.close()


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{platform.python_implementation()} {platform.python_version()}, {system}"
