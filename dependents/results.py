"""The rows of all suites, kept in ``results.json``: one for each suite and version of Python.

A run changes only its own row. Suites may run at the same time, so a writer locks their folder from
reading the old rows until it has written both the data and the page.
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
    """A test that differed once but not consistently, with its outcomes on both sides."""

    test: str
    theirs: tuple[str, ...]
    ours: tuple[str, ...]

    @classmethod
    def of(cls, difference: Difference) -> "Flaky":
        theirs = tuple(each.value for each in difference.theirs)
        return cls(difference.test, theirs, tuple(each.value for each in difference.ours))


@dataclass(frozen=True, slots=True)
class Results:
    """The results of both whole runs and the repeats. Numbers count tests; times are seconds."""

    passed: int
    skipped: int
    failed_on_both: tuple[str, ...]
    worse: tuple[str, ...]
    better: tuple[str, ...]
    flaky: tuple[Flaky, ...]
    seconds_theirs: float
    seconds_ours: float
    expected: tuple[tuple[str, str], ...] = ()
    """Tests that pass only with theirs, each with the reason why that is intended."""


@dataclass(frozen=True, slots=True)
class Row:
    """A suite's last run on one version of Python; no results if its source has no tests."""

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
    """Return the row from its JSON form, which ``dataclasses.asdict`` made."""
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
    """Replace the row of the same suite and Python; return all rows in the file's order."""
    rows = {each.key: each for each in read_rows(path)} | {row.key: row}
    ordered = [rows[key] for key in sorted(rows)]
    text = json.dumps([dataclasses.asdict(each) for each in ordered], indent=1)
    replace_text(path, text + "\n")
    return ordered


def replace_text(path: Path, text: str) -> None:
    """Write the file atomically: a reader sees the old text or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process writes there. The lock ends with the process."""
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
