"""Put one process under every kind of load for minutes, and check that nothing is left behind.

Run ``python run.py [--seconds N] [--write]`` in an environment with the wheels of this repository
and ``requirements.txt``; it needs Linux. The program prints the verdict as a table and exits with 1
if a line does not hold. ``docs/explanation/soak.md`` explains it.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from measurement import measure
from records import RequestOutcome, SoakRun
from verdict import Condition, verdict_on

RESULTS = Path(__file__).parents[1] / "docs" / "explanation" / "soak-results.md"
SHOWN = ("uvicorn", "httptools", "Django", "Flask", "websockets")


def main() -> str | None:
    parser = argparse.ArgumentParser(description="put one process under every kind of load")
    parser.add_argument("--version", action="version", version=f"asgiref {version('asgiref')}")
    parser.add_argument(
        "--seconds", type=float, default=300, metavar="SECONDS", help="load (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help="store the report on its page")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="soak-") as folder:
        run = asyncio.run(measure(Path(folder), options.seconds))
    lines = verdict_on(run)
    print(text := f"{environment(options.seconds)}\n\n{report(run, lines)}\n")
    if options.write:
        RESULTS.write_text(text, "utf-8")
    failed = [f"{line.name}: {line.found}\n{line.detail}" for line in lines if not line.holds]
    return "\n\n".join(failed) or None


def environment(seconds: float) -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    versions = ", ".join(f"{name} {version(name)}" for name in SHOWN)
    load = f"{seconds:.0f} seconds of load, warm-up included"
    return f"CPython {platform.python_version()}, {machine}; {versions}; {load}."


def report(run: SoakRun, lines: list[Condition]) -> str:
    """Return the verdict, the counts at rest and the requests by outcome, as Markdown."""
    verdict = [
        [each.name, each.found, each.allowed, "yes" if each.holds else "**NO**"] for each in lines
    ]
    rests = {"at the start": run.started, "after warm-up": run.warm}
    rests |= {f"pause {number}": each for number, each in enumerate(run.pauses, 1)}
    rests["at the end"] = run.end
    held = [[name, each.ended.total(), *each.counts.values()] for name, each in rests.items()]
    requests = [
        [kind, sent, *(run.ledger.requests[kind, outcome] for outcome in RequestOutcome)]
        for kind, sent in sorted(run.ledger.sent().items())
    ]
    parts = (
        table(["", "found", "allowed", "holds"], verdict),
        "Counts of the process at rest:",
        table(["", "requests", *run.end.counts], held),
        "Requests by outcome:",
        table(["kind", "sent", *(outcome.value for outcome in RequestOutcome)], requests),
    )
    return "\n\n".join(parts)


def table(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    texts = [[f"{each:,}" if isinstance(each, int) else str(each) for each in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *texts])


if __name__ == "__main__":
    sys.exit(main())
