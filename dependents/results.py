"""The rows of all suites, kept in ``results.json``: one for each suite and version of Python.

A run changes only its own row. Suites may run at the same time, so a writer locks the data from
reading the old rows until it has written both the data and the page.
"""

import dataclasses
import fcntl
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """A suite's latest run on one version of Python. Numbers count tests; times are seconds.

    ``not_run`` says why the suite could not run; the results are then those of our smoke test. The
    tests in ``failed`` fail on both sides. Those in ``flaky`` differed once but not consistently;
    the text gives their outcomes. Those in ``known`` pass only with theirs, and the text gives the
    reason why that is intended.
    """

    suite: str
    project: str
    version: str
    python: str
    date: str
    reference: str
    ours: str
    not_run: str = ""
    passed: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list[str])
    worse: list[str] = field(default_factory=list[str])
    better: list[str] = field(default_factory=list[str])
    flaky: dict[str, str] = field(default_factory=dict[str, str])
    known: dict[str, str] = field(default_factory=dict[str, str])
    seconds_theirs: float = 0
    seconds_ours: float = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.suite, ".".join(self.python.split(".")[:2])


def read_rows(path: Path) -> list[Row]:
    return [Row(**each) for each in json.loads(path.read_text("utf-8"))]


def put_row(row: Row, results: Path, page: Path, render: Callable[[Sequence[Row]], str]) -> None:
    """Replace the row of the same suite and Python, and render the page.

    A smoke test does not replace the results of the project's own suite.
    """
    with results.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        rows = {each.key: each for each in read_rows(results)}
        if not row.not_run or rows.get(row.key, row).not_run:
            rows[row.key] = row
        ordered = [rows[key] for key in sorted(rows)]
        text = json.dumps([dataclasses.asdict(each) for each in ordered], indent=1)
        file.truncate(0)
        file.write(text + "\n")
        page.write_text(render(ordered), "utf-8")
