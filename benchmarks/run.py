"""Run the benchmarks, print tables with the changes since the stored run, and store the run.

``python run.py OURS REFERENCE [--only NAME] [--rounds N] [--quick] [--store]``: OURS is a
Python with the components of this repository, REFERENCE one with asgiref 3.13.0; both need pyperf
and psutil. After all have run, the program exits with 1 if a target was missed or a benchmark
crashed.

Only ``--store`` changes the checkout: it writes the records to ``results/``, the plots to
``docs/benchmarks/``, and the figures in the READMEs and pages, from this run and the earlier stored
records.
"""

import argparse
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import plots
from harness import BENCHMARKS, HERE, Options, time_tables
from pages import write_pages
from postgres_echo import echoes
from record import Record, Table
from tables import cells, tables_of
from wsgi_servers import contest

sys.path.append(str(HERE.parent / "tools"))

from command_line import make_parser  # from tools/

RESULTS = HERE / "results"
PLOTS = HERE.parent / "docs" / "benchmarks"


def missing(name: str) -> list[str]:
    """Return the programs and modules that a benchmark needs and that are not installed."""
    needs = BENCHMARKS[name].get("needs", ())
    return [each for each in needs if not (shutil.which(each) or find_spec(each))]


def measure(name: str, options: Options) -> tuple[list[Table], str]:
    """Return the tables of a benchmark, and the conditions of the measurement."""
    if name == "postgres_echo":
        return echoes(options)
    given = BENCHMARKS[name]
    tables = time_tables(name, options) if "tables" in given else []
    if "contenders" in given:
        tables.append(contest(name, options))
    return tables, given["conditions"]


def run_one(name: str, options: argparse.Namespace) -> Record:
    given, load = BENCHMARKS[name], os.getloadavg()[0]
    rounds = options.rounds or given.get("rounds", 21)
    tables, conditions = measure(name, Options(options.ours, options.theirs, rounds, options.quick))
    return Record(name, given["subject"], tables, rounds, conditions, load)


def report(record: Record) -> str:
    then = stored(RESULTS).get(record.name)
    texts = [str(record), tables_of(record, then=then)]
    if then and (then.machine, then.conditions) != (record.machine, record.conditions):
        texts.append(f"The stored run differs, which may explain changes: {then}.")
    # The load average lags: it still includes the core that the previous benchmark kept busy.
    if record.load > (os.cpu_count() or 1):
        texts.append("Other programs used the machine before this run: measure again without them.")
    return "\n\n".join(texts)


def misses(record: Record) -> list[str]:
    """Return the rows of the cases that missed their target or a limit."""
    missed = [(table, case) for table in record.tables for case in table.cases if not case.met]
    return [f"{record.name}: {', '.join(map(' '.join, cells(*each).items()))}" for each in missed]


def stored(results: Path) -> dict[str, Record]:
    return {file.stem: Record.read(file) for file in sorted(results.glob("*.json"))}


def store(records: Iterable[Record], results: Path, figures: Path) -> None:
    """Store records, and their plots."""
    results.mkdir(parents=True, exist_ok=True)
    for record in records:
        file = results / f"{record.name}.json"
        record.write(file)
        plots.draw(Record.read(file), figures)  # rounded, as when redrawn from the stored record


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("run the benchmarks")
    parser.add_argument("ours", help="a Python with the components of this repository")
    parser.add_argument("theirs", help="a Python with asgiref 3.13.0")
    parser.add_argument("--rounds", type=int, metavar="ROUNDS", help="default: the benchmark's own")
    parser.add_argument("--quick", action="store_true", help="measure fewer sizes, for less time")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="default: all")
    parser.add_argument("--store", action="store_true", help="write results, plots and pages")
    parser.add_argument("--write", type=Path, help="a folder for results and plots (default: none)")
    return parser.parse_args(arguments)


def run_all(names: Sequence[str], options: argparse.Namespace) -> tuple[list[Record], list[str]]:
    """Return the records, and the reasons for the run to fail."""
    records, failures = [], []
    for number, name in enumerate(names, 1):
        print(f"\n=== {name}, {number} of {len(names)}", flush=True)
        if lacking := missing(name):
            print(f"not run: not installed: {', '.join(lacking)}")
            continue
        try:
            record = run_one(name, options)
        except Exception as error:  # the other benchmarks still run
            traceback.print_exc()
            failures.append(f"{name}: it broke: {error}")
        else:
            print(f"\n{report(record)}", flush=True)
            records.append(record)
            failures += misses(record)
    return records, failures


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_from(arguments)
    names = [name for name in BENCHMARKS if not options.only or name in options.only]
    records, failures = run_all(names, options)
    if options.write:
        store(records, options.write, options.write)
        print(f"\nresults and plots of this run: {options.write}")
    if options.store:
        store(records, RESULTS, PLOTS)
        write_pages(stored(RESULTS))
    print("\n" + ("\n".join(failures) or "all targets are met"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
