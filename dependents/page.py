"""The page that shows all rows, as Markdown. ``page.md`` is its head."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from .comparison import REPEATS
from .results import Row

HEAD = Path(__file__).with_name("page.md")
COLUMNS = (
    *("project", "version", "Python", "passed", "failed", "skipped", "only theirs", "only ours"),
    *("flaky", "s, theirs", "s, ours", "ours", "date"),
)


def page(rows: Sequence[Row]) -> str:
    """Return the whole page."""
    reference = " or ".join(sorted({row.reference for row in rows}))
    head = HEAD.read_text("utf-8").format(reference=reference, repeats=REPEATS)
    alignment = ["---", "---", "---", *["---:"] * 8, "---", "---"]
    table = (f"| {' | '.join(each)} |" for each in (COLUMNS, alignment, *map(cells, rows)))
    return head + "\n".join([*table, *named_tests(rows)]) + "\n"


def cells(row: Row) -> list[str]:
    """Return the cells of one row, in the order of ``COLUMNS``."""
    counts = (row.passed, len(row.failed), row.skipped, len(row.worse), len(row.better))
    seconds = (f"{row.seconds_theirs:.1f}", f"{row.seconds_ours:.1f}")
    project = f"{row.project}, adapter" if row.suite.startswith("adapter-") else row.project
    project += ", smoke test" if row.not_run else ""
    shown = [*map(str, (*counts, len(row.flaky))), *seconds]
    return [project, row.version, row.python, *shown, row.ours, row.date]


def named_tests(rows: Iterable[Row]) -> list[str]:
    """Return the lines of the sections that name the counted tests, with their reasons."""
    not_run, differing, known, failed = list[str](), list[str](), list[str](), list[str]()
    for row in rows:
        where = f"- {row.project} {row.version}, Python {row.python}"
        not_run += [f"{where}: {row.not_run}"] if row.not_run else []
        differing += [f"{where}, only theirs: `{test}`" for test in row.worse]
        differing += [f"{where}, only ours: `{test}`" for test in row.better]
        differing += [f"{where}, flaky: `{test}` {told}" for test, told in row.flaky.items()]
        known += [f"{where}: `{test}`: {reason}" for test, reason in row.known.items()]
        failed += [f"{where}: `{test}`" for test in row.failed]
    return [
        *_section("Suites that could not run, with a smoke test in their place", not_run),
        *_section("Tests that differ", differing),
        *_section("Tests that differ on purpose", known),
        *_section("Tests that fail on both", failed),
    ]


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []
