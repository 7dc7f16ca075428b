"""Run all benchmarks, print tables and changes since the stored run, and optionally store the run.

``python run.py OURS REFERENCE [--rounds N] [--idle] [--only NAME] [--write FOLDER] [--store]``:
OURS is a Python with the components of this repository, REFERENCE one with asgiref 3.13.0. Each
benchmark is a separate program, so a crash does not affect the others. After all have run, the
program exits with 1 if a target was missed or a benchmark crashed.

Only ``--store`` changes the checkout: it writes the records to ``results/``, the page and the plots
to ``docs/benchmarks/``, and the tables to the READMEs, from this run and the earlier stored
records.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from changes import report
from options import make_parser
from page import has_plot, page_of, peers_table
from readmes import write_blocks
from record import Kind, Measured, Record, Table
from tables import figure

__all__ = ["BENCHMARKS", "PAGE", "RESULTS", "Benchmark", "Outcome", "store", "stored"]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One program of this folder, and its requirements."""

    name: str
    #: The maximum number of rounds, for benchmarks with long rounds.
    most_rounds: int | None = None
    compares: bool = True
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def obstacle(self) -> str | None:
        """Return why the benchmark cannot run here, if it cannot."""
        for program in self.programs:
            if shutil.which(program) is None:
                return f"{program} is not installed (Debian: apt-get install {program})"
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed on this Python"
        return None

    def arguments(self, options: argparse.Namespace) -> list[str]:
        if not self.compares:
            return []
        arguments = [options.ours, options.theirs]
        if options.rounds is not None:
            rounds = min(options.rounds, self.most_rounds or options.rounds)
            arguments += ["--rounds", str(rounds)]
        if options.idle and self.most_rounds is None:
            arguments.append("--idle")
        return arguments


BENCHMARKS = (
    Benchmark("bridge"),
    Benchmark("bridge_memory", compares=False),
    Benchmark("wsgi"),
    Benchmark("wsgi_servers", 5, programs=("wrk",), modules=("gunicorn", "httptools")),
    Benchmark("asgi_to_wsgi", 15, programs=("wrk",), modules=("gunicorn",)),
    Benchmark("server"),
    Benchmark("local"),
    Benchmark("helpers"),
    Benchmark("postgres_echo", 5, modules=("asyncpg",)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a benchmark; it has no record if it crashed or did not run."""

    name: str
    record: Record | None
    trouble: str | None = None

    @property
    def failures(self) -> list[str]:
        """Return the reasons for the run to fail, one sentence each."""
        if self.record is None:
            return [] if self.trouble is None else [f"{self.name}: {self.trouble}"]
        return [
            f"{self.name}: {case.name}: missed its target, {shortfall(table, case)}"
            for table in self.record.tables
            for case in table.cases
            if not case.met
        ]


def shortfall(table: Table, case: Measured) -> str:
    if table.kind is Kind.GROWTH:
        return f"left behind: {case.note}, and {case.ours:.0f} {table.unit}"
    if case.ratio < case.target:
        return f"ratio {case.ratio:.2f} of {case.target:g}"
    limit = min(case.bounds.values())
    return f"{figure(case.ours, table.unit)} where {figure(limit, table.unit)} are allowed"


def run_one(benchmark: Benchmark, options: argparse.Namespace, folder: Path) -> Outcome:
    """Run one benchmark, which prints its own progress and tables."""
    file = folder / f"{benchmark.name}.json"
    script = HERE / f"{benchmark.name}.py"
    command = [sys.executable, str(script), *benchmark.arguments(options), "--json", str(file)]
    status = subprocess.run(command).returncode
    if not file.exists():
        return Outcome(benchmark.name, None, f"it broke, with status {status}")
    return Outcome(benchmark.name, Record.read(file))


def run_all(benchmarks: Sequence[Benchmark], options: argparse.Namespace) -> list[Outcome]:
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number, benchmark in enumerate(benchmarks, 1):
            print(f"\n=== {benchmark.name}, {number} of {len(benchmarks)}", flush=True)
            if obstacle := benchmark.obstacle():
                print(f"not run: {obstacle}")
                continue
            outcome = run_one(benchmark, options, Path(folder))
            outcomes.append(outcome)
            if outcome.record is not None:
                print(
                    f"\n{since_stored(outcome.record, RESULTS)}{doubt(outcome.record)}", flush=True
                )
    return outcomes


def doubt(record: Record) -> str:
    """Return a warning if other programs used the machine: a varying load distorts all ratios."""
    # The load average lags: it still includes the core that the previous benchmark kept busy.
    if record.load <= record.machine.cores:
        return ""
    return f"\n\nThe load was {record.load:.1f} before: measure again when nobody else is at work."


def since_stored(record: Record, results: Path) -> str:
    file = results / f"{record.name}.json"
    return report(Record.read(file), record) if file.exists() else "nothing stored to compare with"


def stored(results: Path) -> list[Record]:
    """Return the stored records, in the order of the benchmarks."""
    files = [results / f"{benchmark.name}.json" for benchmark in BENCHMARKS]
    return [Record.read(file) for file in files if file.exists()]


def store(records: Iterable[Record], results: Path, page: Path) -> None:
    """Store records, then write the page and the plots of all stored records."""
    import plots

    results.mkdir(parents=True, exist_ok=True)
    page.mkdir(parents=True, exist_ok=True)
    for record in records:
        record.write(results / f"{record.name}.json")
    for record in stored(results):
        if has_plot(record):
            plots.draw(record, page / f"{record.name}.svg")
        if (number := peers_table(record)) is not None:
            plots.draw_peers(record.tables[number], page / f"{record.name}-peers.svg")
    (page / "index.md").write_text(page_of(stored(results)), "utf-8")


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def leave(records: Sequence[Record], folder: Path) -> None:
    """Write the records of a run to a folder, with a page and, if possible, plots."""
    if can_plot():
        store(records, folder, folder)
        print(f"\nfigures, tables and plots of this run: {folder}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        record.write(folder / f"{record.name}.json")
    print(f"\nfigures of this run, without plots, for matplotlib is not installed: {folder}")


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = make_parser("run all benchmarks")
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="ROUNDS",
        help="how many rounds measure each case (default: each benchmark's own number)",
    )
    parser.add_argument("--idle", action="store_true", help="do not keep one core busy")
    parser.add_argument(
        "--only", action="append", choices=names, help="run this one; repeatable (default: all)"
    )
    parser.add_argument(
        "--store", action="store_true", help="write results, page, plots and READMEs"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="leave this run's figures there (default: keep none)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_from(arguments)
    if options.store and not can_plot():
        sys.exit("--store draws plots, and matplotlib is not installed on this Python")
    chosen = [each for each in BENCHMARKS if not options.only or each.name in options.only]
    outcomes = run_all(chosen, options)
    records = [each.record for each in outcomes if each.record is not None]
    if options.write:
        leave(records, options.write)
    if options.store:
        store(records, RESULTS, PAGE)
        write_blocks(stored(RESULTS), HERE.parent)
        print(f"\nstored in {RESULTS.name}/, {PAGE.parent.name}/{PAGE.name}/ and the READMEs")
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    print("\n" + ("\n".join(failures) or "all targets are met"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
