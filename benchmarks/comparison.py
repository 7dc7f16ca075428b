"""Compare this repository with asgiref 3.13.0 and others: the common part of the benchmarks.

Each benchmark has a file of cases, which two interpreters run on request (`measured`): one has the
components of this repository, the other has asgiref 3.13.0. Each round measures every case in both,
directly one after the other and with alternating order, so a short disturbance of the machine
affects both. Times are medians of the rounds; a ratio is the median of the rounds' ratios.

Unless ``--idle`` is given, a process keeps one core busy: on an idle machine a hop between threads
wakes a sleeping core, which on a virtual machine can cost more than all that is measured here.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from options import add_json, add_rounds, make_parser
from progress import Progress
from record import Kind, Measured, Record, Table
from tables import tables_of

__all__ = ["Benchmark", "Bound", "Case", "run", "times"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit in microseconds that is computed from the times of peers."""

    text: str
    limit: Callable[[dict[str, float]], float]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    calls: int
    #: The target: at least this many times as fast as asgiref 3.13.
    target: float
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`cases` for both environments and `peers` for ours only, with the number of calls of each."""

    title: str
    cases_file: Path
    cases: Sequence[Case]
    peers: Mapping[str, int]
    #: The unit of printed figures, and how many of it make a microsecond.
    unit: str = "µs"
    per_microsecond: int = 1


def times(factor: float, *peers: str) -> Bound:
    text = " + ".join(peers) if factor == 1 else f"{factor:.3g} x ({' + '.join(peers)})"
    return Bound(text, lambda medians: factor * sum(medians[peer] for peer in peers))


def share_of_targets(version: tuple[int, int]) -> float:
    """Return the share of each target for a Python version: 3.11 cannot start tasks eagerly."""
    return 0.7 if version < (3, 12) else 1.0


class Environment:
    """A process that measures on request."""

    def __init__(self, python: str, cases: Path) -> None:
        self._process = subprocess.Popen(
            [python, str(cases)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, case: str, calls: int) -> float:
        """Return the microseconds per call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"{case}\t{calls}", file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{case}: the measuring process ended with {self._process.wait()}")
        return float(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class Samples:
    """The microseconds per call of each round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        return [b / a for a, b in zip(self.ours, self.theirs, strict=True)]


def measure(
    benchmark: Benchmark, ours: Environment, theirs: Environment, rounds: int, label: str
) -> Table:
    samples = {case.name: Samples() for case in benchmark.cases}
    peers: dict[str, list[float]] = {peer: [] for peer in benchmark.peers}
    with Progress(f"{label}, {benchmark.title}", rounds) as progress:
        for number in range(rounds):
            progress.step()
            for case in benchmark.cases:
                progress.detail(case.name)
                sample = samples[case.name]
                turns = [(ours, sample.ours), (theirs, sample.theirs)]
                for environment, figures in turns if number % 2 else reversed(turns):
                    figures.append(environment.measure(case.name, case.calls))
            for peer, calls in benchmark.peers.items():
                progress.detail(peer)
                peers[peer].append(ours.measure(peer, calls))
    scale = benchmark.per_microsecond
    medians = {peer: statistics.median(figures) for peer, figures in peers.items()}
    cases = [judge(case, samples[case.name], medians, scale) for case in benchmark.cases]
    in_unit = {peer: scale * median for peer, median in medians.items()}
    return Table(benchmark.title, Kind.COST, benchmark.unit, cases, in_unit)


def judge(case: Case, samples: Samples, peers: dict[str, float], scale: float) -> Measured:
    target = round(case.target * share_of_targets(sys.version_info[:2]), 2)
    ours, theirs = statistics.median(samples.ours), statistics.median(samples.theirs)
    limits = {bound.text: bound.limit(peers) for bound in case.bounds}
    ratios = samples.ratios()
    met = statistics.median(ratios) >= target and all(ours <= at for at in limits.values())
    bounds = {text: scale * at for text, at in limits.items()}
    return Measured(case.name, scale * ours, scale * theirs, ratios, target, met, bounds)


@contextmanager
def busy_core(wanted: bool) -> Iterator[str]:
    """Keep a core busy during the ``with`` block; yield a description of the conditions."""
    if not wanted:
        yield "otherwise idle"
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield "one core kept busy"
    finally:
        process.kill()
        process.wait()


def run(name: str, subject: str, *benchmarks: Benchmark) -> int:
    """Run benchmarks with the options of the command line. Returns 1 if a target is missed."""
    parser = make_parser(subject)
    add_rounds(parser, 21)
    parser.add_argument("--idle", action="store_true", help="do not keep one core busy")
    add_json(parser)
    arguments = parser.parse_args()
    pythons, rounds = (arguments.ours, arguments.theirs), arguments.rounds
    load = os.getloadavg()[0]
    with busy_core(not arguments.idle) as conditions:
        tables = [run_one(benchmark, *pythons, rounds, name) for benchmark in benchmarks]
    record = Record(name, subject, tables, rounds, conditions, load)
    print(f"{record.machine}, {conditions}\n\n{tables_of(record)}", flush=True)
    if arguments.json is not None:
        record.write(arguments.json)
    return 0 if record.met else 1


def run_one(benchmark: Benchmark, ours: str, theirs: str, rounds: int, label: str) -> Table:
    file = benchmark.cases_file
    with closing(Environment(ours, file)) as here, closing(Environment(theirs, file)) as there:
        return measure(benchmark, here, there, rounds, label)
