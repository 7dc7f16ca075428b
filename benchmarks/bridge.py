"""How fast the bridge is, beside asgiref 3.13.0, the standard library and anyio.

``python bridge.py OURS REFERENCE [--rounds N] [--idle] [--json FILE]``: two Python interpreters,
the first of an environment with the components of this repository, the second of one with asgiref
3.13.0; both with Django and anyio. In each round every case is measured in both, one directly after
the other and in turns first, so what disturbs the machine for a moment disturbs both. Times are
medians of the rounds, a ratio is the median of the rounds' ratios. Prints a table; exits with 1 if
a target is missed.

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
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

CASES_FILE = Path(__file__).with_name("bridge_cases.py")


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
class Result:
    name: str
    ours: float
    theirs: float
    ratio: float
    target: float
    bounds: dict[str, float]
    met: bool


def times(factor: float, *peers: str) -> Bound:
    text = " + ".join(peers) if factor == 1 else f"{factor} x ({' + '.join(peers)})"
    return Bound(text, lambda medians: factor * sum(medians[peer] for peer in peers))


HOP = (
    times(1.5, "raw hop"),
    times(1, "asyncio.to_thread"),
    times(1, "anyio.to_thread"),
)

CASES = (
    Case("sensitive", 400, 2.2, HOP),
    Case("in a context", 400, 2.2, HOP),
    Case("parallel", 400, 2.2, HOP),
    Case("30 variables", 400, 2.5),
    Case("1000 at once", 2000, 5, (times(1, "1000 asyncio.to_thread"),)),
    Case("a context each", 200, 6),
    Case("async_to_sync below", 400, 2.2, (times(1, "run_coroutine_threadsafe"),)),
    Case(
        "async_to_sync at top level",
        200,
        10,
        (times(1.3, "reused asyncio.Runner", "raw hop"),),
    ),
    Case("top level and back", 150, 6),
    Case("Django ASGI, sync view", 60, 1.6),
    Case("Django WSGI, async view", 60, 3),
)
PEERS = {
    "raw hop": 400,
    "asyncio.to_thread": 400,
    "anyio.to_thread": 400,
    "1000 asyncio.to_thread": 2000,
    "run_coroutine_threadsafe": 400,
    "reused asyncio.Runner": 400,
}


def share_of_targets(version: tuple[int, int]) -> float:
    """Return how much of each target holds on a Python: 3.11 cannot start tasks eagerly."""
    return 0.7 if version < (3, 12) else 1.0


class Environment:
    """A process that measures on request."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, str(CASES_FILE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


def measure(ours: Environment, theirs: Environment, rounds: int) -> list[Result]:
    samples = {case.name: Samples() for case in CASES}
    peers: dict[str, list[float]] = {peer: [] for peer in PEERS}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for case in CASES:
            sample = samples[case.name]
            turns = [(ours, sample.ours), (theirs, sample.theirs)]
            for environment, figures in turns if number % 2 else reversed(turns):
                figures.append(environment.measure(case.name, case.calls))
        for peer, calls in PEERS.items():
            peers[peer].append(ours.measure(peer, calls))
    medians = {peer: statistics.median(figures) for peer, figures in peers.items()}
    return [judge(case, samples[case.name], medians) for case in CASES]


def judge(case: Case, samples: Samples, peers: dict[str, float]) -> Result:
    target = round(case.target * share_of_targets(sys.version_info[:2]), 2)
    ours, theirs = statistics.median(samples.ours), statistics.median(samples.theirs)
    bounds = {bound.text: bound.limit(peers) for bound in case.bounds}
    ratio = samples.ratio()
    met = ratio >= target and all(ours <= limit for limit in bounds.values())
    return Result(case.name, ours, theirs, ratio, target, bounds, met)


def table(results: list[Result]) -> str:
    lines = [
        "| one call | asgiref 3.13 | ours | ratio | target | and at most | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        bounds = "; ".join(f"{text}: {limit:.1f} µs" for text, limit in result.bounds.items())
        lines.append(
            f"| {result.name} | {result.theirs:.1f} µs | {result.ours:.1f} µs "
            f"| {result.ratio:.1f} | {result.target} | {bounds} | {'yes' if result.met else 'NO'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ours, theirs = Environment(arguments.ours), Environment(arguments.theirs)
    busy = None if arguments.idle else subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        results = measure(ours, theirs, arguments.rounds)
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()
        ours.close()
        theirs.close()
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, {os.cpu_count()} cores, {'idle' if arguments.idle else 'one busy'}\n")
    print(table(results))
    if arguments.json is not None:
        rows = [asdict(result) for result in results]
        arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
