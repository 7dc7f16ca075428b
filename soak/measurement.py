"""Runs the two processes and measures: warm-up, stretches of load with pauses, and the end.

After warm-up and at the end the process is left alone until it has as few threads as at the start
and one: the idle threads of the bridge end after a minute, its loops after one or two, and its
thread for thread-sensitive code stays. Between them stand stretches of load of
equal length, each with a short pause, in which it is asked what it holds. So each measurement is
taken with nothing under way, and two of a kind under equal conditions. Under load it is only looked
at from outside, by what the kernel tells.
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
#: Long enough for what is under way to end.
PAUSE_SECONDS = 3.0
#: Settling takes at least the first, until asyncio has dropped its timers, and at most the second,
#: in which the idle threads and loops of the bridge end.
SETTLING_SECONDS = (40.0, 130.0)
START_SECONDS = 30.0
END_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run takes, in seconds. Warm-up is a part of the load."""

    seconds: float
    settling: tuple[float, float] = SETTLING_SECONDS
    stretches: int = 8  #: of load after warm-up
    leaks: tuple[str, ...] = ()  #: see ``site_under_test.leaks``

    @property
    def warm_up(self) -> float:
        return max(5.0, self.seconds / 6)

    @property
    def stretch(self) -> float:
        return max(2.0, (self.seconds - self.warm_up) / self.stretches)


class Site:
    """The process under test, from its start to its end."""

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
        """Ask it what it holds. It counts in the request that asks, each time alike."""

        def get() -> dict[str, object]:
            url = f"http://127.0.0.1:{self.port}/probe"
            with urllib.request.urlopen(url, timeout=60) as file:
                answer: dict[str, object] = json.load(file)
                return answer

        snapshot = snapshot_from(await asyncio.to_thread(get))
        snapshot.seconds = self.seconds()
        return snapshot

    async def end(self) -> int:
        """Ask it to end, kill it if it does not, and return its exit status."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began


async def measure(plan: Plan, folder: Path) -> Run:
    """Run the plan and return all that is known of it; the folder is for the processes' files."""
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
    """Have a process of its own make load; note when, and return its book."""
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
    await site.ask()  # what is forgotten is collected, and the threads that it held begin to idle
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
