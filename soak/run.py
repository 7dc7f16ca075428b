"""Load one process with everything for minutes, and check that nothing is left behind.

Run ``python run.py [--seconds N] [--leak KIND ...] [--write]`` in an environment with the wheels of
this repository and ``requirements.txt``; it needs Linux and Debian's ``wrk``. The program prints
the verdict as a table and exits with 1 if a line does not hold. ``docs/explanation/soak.md``
explains it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from load.plain import require_wrk
from measurement import Plan, measure
from plot import plot
from records import Run
from report import asked, held, results, table, write_json, write_page
from verdict import Line, judge

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "explanation"
LEAKS = ("threads", "descriptors", "objects", "memory", "tasks", "loops", "children")
SHOWN = ("uvicorn", "httptools", "Django", "Flask", "websockets")


def main() -> int:
    plan, write = _arguments()
    require_wrk()
    with TemporaryDirectory(prefix="soak-") as folder:
        run = asyncio.run(measure(plan, Path(folder)))
    lines = judge(run)
    print("\n\n".join((asked(run), held(run), table(lines))))
    for line in lines:
        if not line.holds:
            print(f"\n{line.name}: {line.found}, allowed {line.allowed}\n{line.detail}")
    if write:
        _write(run, lines)
    return 0 if all(line.holds for line in lines) else 1


def _arguments() -> tuple[Plan, bool]:
    parser = argparse.ArgumentParser(description="one process with everything under load")
    parser.add_argument("--version", action="version", version=f"asgiref {version('asgiref')}")
    parser.add_argument(
        "--seconds",
        type=float,
        default=300,
        metavar="SECONDS",
        help="how long it is under load (default: %(default)s)",
    )
    parser.add_argument(
        "--leak",
        nargs="+",
        choices=LEAKS,
        default=(),
        help="leak these on purpose (default: nothing)",
    )
    parser.add_argument("--write", action="store_true", help="keep the report in the repository")
    arguments = parser.parse_args()
    return Plan(arguments.seconds, leaks=tuple(arguments.leak)), arguments.write


def _write(run: Run, lines: list[Line]) -> None:
    versions = {name: version(name) for name in SHOWN}
    data = results(run, lines, versions)
    write_json(HERE / "results.json", data)
    write_page(DOCS / "soak.md", run, lines, versions)
    plot(data, DOCS / "soak.svg")


if __name__ == "__main__":
    sys.exit(main())
