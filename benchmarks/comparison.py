"""Compare this repository with asgiref 3.13.0 and others: what the benchmarks have in common.

Each benchmark has a file of cases, which two interpreters run on request (`measured`): one of an
environment with the components of this repository, one of an environment with asgiref 3.13.0. In
each round every case is measured in both, one directly after the other and in turns first, so what
disturbs the machine for a moment disturbs both. Times are medians of the rounds, a ratio is the
median of the rounds' ratios.

One core is kept busy by a process that does nothing else, unless ``--idle`` is given: on a machine
that is otherwise idle a hop between threads wakes a sleeping core, which on a virtual machine can
cost more than everything that is measured here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Benchmark", "Bound", "Case", "run", "times"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit in microseconds that follows from what peers took."""

    text: str
    limit: Callable[[dict[str, float]], float]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    calls: int
    #: At least so many times as fast as asgiref 3.13.
    target: float
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is measured: `cases` in both environments, `peers` in ours only, each so many calls."""

    title: str
    cases_file: Path
    cases: Sequence[Case]
    peers: Mapping[str, int]
    #: Figures are printed in this unit, of which so many are a microsecond.
    unit: str = "µs"
    per_microsecond: int = 1

    def show(self, microseconds: float) -> str:
        return f"{microseconds * self.per_microsecond:.1f} {self.unit}"


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    ours: float
    theirs: float
    ratio: float
    target: float
    bounds: dict[str, float]
    met: bool


def times(factor: float, *peers: str) -> Bound:
    text = " + ".join(peers) if factor == 1 else f"{factor:.3g} x ({' + '.join(peers)})"
    return Bound(text, lambda medians: factor * sum(medians[peer] for peer in peers))


def share_of_targets(version: tuple[int, int]) -> float:
    """Return how much of each target holds on a Python: 3.11 cannot start tasks eagerly."""
    return 0.7 if version < (3, 12) else 1.0


class Environment:
    """A process that measures on request."""

    def __init__(self, python: str, cases: Path) -> None:
        self._process = subprocess.Popen(
            [python, str(cases)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, case: str, calls: int) -> float:
        """Return the microseconds that one call took."""
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
    """Microseconds a call, round by round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def measure(
    benchmark: Benchmark, ours: Environment, theirs: Environment, rounds: int
) -> tuple[list[Result], dict[str, float]]:
    samples = {case.name: Samples() for case in benchmark.cases}
    peers: dict[str, list[float]] = {peer: [] for peer in benchmark.peers}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for case in benchmark.cases:
            sample = samples[case.name]
            turns = [(ours, sample.ours), (theirs, sample.theirs)]
            for environment, figures in turns if number % 2 else reversed(turns):
                figures.append(environment.measure(case.name, case.calls))
        for peer, calls in benchmark.peers.items():
            peers[peer].append(ours.measure(peer, calls))
    medians = {peer: statistics.median(figures) for peer, figures in peers.items()}
    return [judge(case, samples[case.name], medians) for case in benchmark.cases], medians


def judge(case: Case, samples: Samples, peers: dict[str, float]) -> Result:
    target = round(case.target * share_of_targets(sys.version_info[:2]), 2)
    ours, theirs = statistics.median(samples.ours), statistics.median(samples.theirs)
    bounds = {bound.text: bound.limit(peers) for bound in case.bounds}
    ratio = samples.ratio()
    met = ratio >= target and all(ours <= limit for limit in bounds.values())
    return Result(case.name, ours, theirs, ratio, target, bounds, met)


def table_of_peers(benchmark: Benchmark, medians: dict[str, float]) -> str:
    lines = [f"| {peer} | {benchmark.show(figure)} |" for peer, figure in medians.items()]
    return "\n".join(["| beside them | |", "|---|---|", *lines])


def table(benchmark: Benchmark, results: list[Result]) -> str:
    show = benchmark.show
    lines = [
        f"| {benchmark.title} | asgiref 3.13 | ours | ratio | target | and at most | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        bounds = "; ".join(f"{text}: {show(limit)}" for text, limit in result.bounds.items())
        lines.append(
            f"| {result.name} | {show(result.theirs)} | {show(result.ours)} | {result.ratio:.1f} "
            f"| {result.target} | {bounds} | {'yes' if result.met else 'NO'} |"
        )
    return "\n".join(lines)


def run(*benchmarks: Benchmark) -> int:
    """Run benchmarks as the command line asks. Returns 1 if a target is missed, else 0."""
    parser = argparse.ArgumentParser(description=", ".join(each.title for each in benchmarks))
    parser.add_argument("ours", help="a Python with the components of this repository")
    parser.add_argument("theirs", help="a Python with asgiref 3.13.0")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--idle", action="store_true", help="do not keep one core busy")
    parser.add_argument("--json", type=Path, help="where to write the results as well")
    arguments = parser.parse_args()
    busy = None if arguments.idle else subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        results = {
            benchmark.title: run_one(benchmark, arguments.ours, arguments.theirs, arguments.rounds)
            for benchmark in benchmarks
        }
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, {os.cpu_count()} cores, {'idle' if arguments.idle else 'one busy'}")
    for benchmark in benchmarks:
        some, medians = results[benchmark.title]
        print(f"\n{table(benchmark, some)}")
        if medians:
            print(f"\n{table_of_peers(benchmark, medians)}")
    everything = [result for some, _ in results.values() for result in some]
    if arguments.json is not None:
        peers = {peer: figure for _, some in results.values() for peer, figure in some.items()}
        record = {"cases": [asdict(result) for result in everything], "peers": peers}
        arguments.json.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(result.met for result in everything) else 1


def run_one(
    benchmark: Benchmark, ours: str, theirs: str, rounds: int
) -> tuple[list[Result], dict[str, float]]:
    environments = [Environment(python, benchmark.cases_file) for python in (ours, theirs)]
    try:
        return measure(benchmark, *environments, rounds)
    finally:
        for environment in environments:
            environment.close()
