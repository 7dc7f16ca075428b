"""Time the cases of `targets.toml` with pyperf, in two environments that alternate.

Each measurement is a pyperf worker process, which warms up and then times one value. pyperf
itself measures one environment completely before the next, so a change in the machine's load
between the two would look like a difference. Here each round measures every case in both
environments, directly one after the other and with alternating order.

Meanwhile, a process keeps one core busy: on an idle machine a hop between threads wakes a sleeping
core, which on a virtual machine can cost more than everything measured here.
"""

import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyperf
from record import Table, compared

HERE = Path(__file__).resolve().parent
Item = TypeVar("Item")
BENCHMARKS = tomllib.loads((HERE / "targets.toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Options:
    """The Pythons of both sides, and how much to measure."""

    ours: str
    theirs: str
    rounds: int
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """A table of `targets.toml`."""

    title: str
    cases: Mapping[str, Mapping[str, Any]]
    peers: Mapping[str, int] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    unit: str = "µs"
    theirs: str = "asgiref 3.13"

    def all_peers(self) -> dict[str, int]:
        cases = self.cases.items()
        named = {f"{other}, {name}": case["calls"] for other in self.others for name, case in cases}
        return {**self.peers, **named}


def turns(label: str, count: int, items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items for each round, starting with a different one each time."""
    given = list(items)
    for number in range(count):
        print(f"{label}: round {number + 1} of {count}", file=sys.stderr, flush=True)
        first = number % len(given)
        yield given[first:] + given[:first]


def measure(python: str, name: str, case: str, calls: int, unit: str) -> float:
    """Return the time of a call, measured in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/run.json"
        command = [python, str(HERE / f"{name}_cases.py"), "--worker", "--case", case]
        command += [f"--loops={calls}", "--warmups=1", "--values=1", f"--output={file}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        # Cases in units other than time return their figures as if they were microseconds.
        per_second = 1e9 if unit == "ns" else 1e6
        return per_second * float(pyperf.Benchmark.load(file).median())


Rounds = defaultdict[str, list[float]]


def time_rounds(name: str, table: Timing, options: Options) -> tuple[Rounds, Rounds]:
    """Return the times of each case, ours and theirs; ours include the peers."""
    ours, theirs = Rounds(list), Rounds(list)
    sides = (theirs, options.theirs), (ours, options.ours)
    for order in turns(f"{name}, {table.title}", options.rounds, sides):
        for case, given in table.cases.items():
            for figures, python in order:
                figures[case].append(measure(python, name, case, given["calls"], table.unit))
        for peer, calls in table.all_peers().items():
            ours[peer].append(measure(options.ours, name, peer, calls, table.unit))
    return ours, theirs


def time_table(name: str, table: Timing, options: Options) -> Table:
    ours, theirs = time_rounds(name, table, options)
    medians = {case: statistics.median(figures) for case, figures in ours.items()}
    # Python 3.11 cannot start tasks eagerly.
    share, cases = 1 if sys.version_info >= (3, 12) else 0.7, []
    for case, given in table.cases.items():
        limits = {
            peer if factor == 1 else f"{factor:.3g} x ({peer})": factor * medians[peer]
            for peer, factor in given.get("limits", {}).items()
        }
        limits |= {"limit": given["at_most"]} if "at_most" in given else {}
        peers = {other: medians[f"{other}, {case}"] for other in table.others}
        target = round(given["target"] * share, 2)
        cases.append(compared(case, ours[case], theirs[case], target, limits=limits, peers=peers))
    peers = {peer: medians[peer] for peer in table.peers}
    return Table(table.title, table.unit, cases, peers, table.theirs)


def time_tables(name: str, options: Options) -> list[Table]:
    tables = [Timing(**each) for each in BENCHMARKS[name]["tables"]]
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy_core:
        try:
            return [time_table(name, each, options) for each in tables]
        finally:
            busy_core.kill()
