"""The rows of all suites, kept in ``results.json``, and the page that shows them.

There is one row for each suite and version of Python. A run changes only its own row. Suites may
run at the same time, so a writer locks the data from reading the old rows until it has written both
the data and the page. ``page.md`` is the head of the page.
"""

import dataclasses
import fcntl
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HEAD = Path(__file__).with_name("page.md")
COLUMNS = (
    *("project", "version", "Python", "passed", "failed", "skipped", "only theirs", "only ours"),
    *("flaky", "s, theirs", "s, ours", "ours", "date"),
)
SECTIONS = ("Tests that differ", "Tests that differ on purpose", "Tests that fail on both")


@dataclass(frozen=True, slots=True)
class Row:
    """A suite's latest run on one version of Python. Numbers count tests; times are seconds.

    The tests in ``failed`` fail on both sides. Those in ``flaky`` differed once but not
    consistently; the text gives their outcomes. Those in ``known`` pass only with theirs, and the
    text gives the reason why that is intended.
    """

    suite: str
    project: str
    version: str
    python: str
    date: str
    reference: str
    ours: str
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
        return self.suite, self.python.rpartition(".")[0]

    def cells(self) -> list[str]:
        """Return the cells of the table, in the order of ``COLUMNS``."""
        project = f"{self.project}, adapter" if self.suite.startswith("adapter-") else self.project
        numbers = (
            *(self.passed, len(self.failed), self.skipped, len(self.worse), len(self.better)),
            *(len(self.flaky), self.seconds_theirs, self.seconds_ours),
        )
        return [project, self.version, self.python, *map(str, numbers), self.ours, self.date]

    def named_tests(self) -> list[tuple[str, str]]:
        """Return the titles and lines of the page that name tests, with their reasons."""
        where = f"- {self.project} {self.version}, Python {self.python}"
        differ, on_purpose, failed = SECTIONS
        return [
            *((differ, f"{where}, only theirs: `{test}`") for test in self.worse),
            *((differ, f"{where}, only ours: `{test}`") for test in self.better),
            *((differ, f"{where}, flaky: `{test}` {told}") for test, told in self.flaky.items()),
            *((on_purpose, f"{where}: `{test}`: {reason}") for test, reason in self.known.items()),
            *((failed, f"{where}: `{test}`") for test in self.failed),
        ]


def put_row(row: Row, results: Path, page: Path) -> None:
    """Replace the row of the same suite and Python, and write the page."""
    with results.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        old = [Row(**entry) for entry in json.load(file)]
        rows = sorted([row, *(r for r in old if r.key != row.key)], key=lambda r: r.key)
        file.truncate(0)
        file.write(json.dumps([dataclasses.asdict(each) for each in rows], indent=1) + "\n")
        page.write_text(page_of(rows), "utf-8")


def page_of(rows: Sequence[Row]) -> str:
    """Return the whole page, as Markdown."""
    alignment = ["---", "---", "---", *["---:"] * 8, "---", "---"]
    lines = [f"| {' | '.join(each)} |" for each in (COLUMNS, alignment, *(r.cells() for r in rows))]
    for each in SECTIONS:
        if found := [line for row in rows for title, line in row.named_tests() if title == each]:
            lines += ["", f"## {each}", "", *found]
    return HEAD.read_text("utf-8") + "\n".join(lines) + "\n"
