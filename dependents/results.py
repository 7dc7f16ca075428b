"""The rows of all suites, kept in ``results.json``: one a suite and version of Python.

A run changes its own row only. Suites may run at once, so who writes holds a lock on the folder
they are in, from the reading to the writing of both the data and the page.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .comparison import Difference


@dataclass(frozen=True, slots=True)
class Flaky:
    """A test that differed once and has no steady answer: its outcomes on both sides."""

    test: str
    theirs: tuple[str, ...]
    ours: tuple[str, ...]

    @classmethod
    def of(cls, difference: Difference) -> "Flaky":
        theirs = tuple(each.value for each in difference.theirs)
        return cls(difference.test, theirs, tuple(each.value for each in difference.ours))


@dataclass(frozen=True, slots=True)
class Results:
    """What the two whole runs and the repeats said. Numbers count tests; times are in seconds."""

    passed: int
    skipped: int
    failed_on_both: tuple[str, ...]
    worse: tuple[str, ...]
    better: tuple[str, ...]
    flaky: tuple[Flaky, ...]
    seconds_theirs: float
    seconds_ours: float
    expected: tuple[tuple[str, str], ...] = ()
    """Tests that pass with theirs only, and the reasons why they should."""


@dataclass(frozen=True, slots=True)
class Row:
    """A suite's last run on one version of Python; no results where its source has no tests."""

    suite: str
    project: str
    version: str
    python: str
    date: str
    reference: str
    ours: str
    results: Results | None = None

    def with_results(self, results: Results) -> "Row":
        return dataclasses.replace(self, results=results)

    @property
    def key(self) -> tuple[str, str]:
        return self.suite, ".".join(self.python.split(".")[:2])


def row_from(data: Mapping[str, Any]) -> Row:
    """The row that ``dataclasses.asdict`` made this of, read from JSON."""
    results = data["results"]
    if results is not None:
        flaky = tuple(
            Flaky(f["test"], tuple(f["theirs"]), tuple(f["ours"])) for f in results["flaky"]
        )
        lists = {name: tuple(results[name]) for name in ("failed_on_both", "worse", "better")}
        expected = tuple((test, reason) for test, reason in results.get("expected", ()))
        results = Results(**{**results, **lists, "flaky": flaky, "expected": expected})
    return Row(**{**data, "results": results})


def read_rows(path: Path) -> list[Row]:
    return [row_from(each) for each in json.loads(path.read_text("utf-8"))] if path.exists() else []


def put_row(path: Path, row: Row) -> list[Row]:
    """Put the row in place of that of the same suite and Python; all rows, in the file's order."""
    rows = {each.key: each for each in read_rows(path)} | {row.key: row}
    ordered = [rows[key] for key in sorted(rows)]
    text = json.dumps([dataclasses.asdict(each) for each in ordered], indent=1)
    replace_text(path, text + "\n")
    return ordered


def replace_text(path: Path, text: str) -> None:
    """Write the file in one step: a reader sees the old text or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes there. The lock goes with the process: none is left behind."""
    try:
        import fcntl
    except ImportError:  # Windows: run one suite at a time there
        yield
        return
    locked = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX)
        yield
    finally:
        os.close(locked)
