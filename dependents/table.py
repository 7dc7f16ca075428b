"""The page that shows all rows, as Markdown."""

from collections.abc import Sequence

from .comparison import REPEATS
from .results import Flaky, Row

HEAD = """\
# Downstream test suites

Each project below depends on asgiref. Its own tests ran twice in one virtual environment: with
asgiref {reference}, and with these distributions in its place. The two runs are compared test by
test. A test that passes only with asgiref fails the run, so none can hide in a total.

`tox run -m dependents` runs all suites and writes this page; `tox run -e wheels,dependents-flask`
runs one and changes its row. Each run downloads the newest release for the running Python, with its
requirements. Of Django's own suite, on SQLite, the run selects the labels that mention asgiref or
contain coroutines, and those that use handlers, signals, sessions, connections and the other
modules of Django that import asgiref.

A project followed by *adapter* has tests of WSGI applications. One run uses the project's own
adapter, the other `WsgiToAsgi`. Flask and Werkzeug have no adapter: each request
of their test client goes through `WsgiToAsgi` and back. Below the table is a list of the tests that
differ on purpose, with reasons. `dependents/results.json` holds the data.

- *passed*, *failed*, *skipped*: tests with the same outcome on both sides. A test that fails on
  both needs something that the machine lacks, or other versions of the suite's requirements.
- *only theirs*, *only ours*: tests that consistently pass on one side only.
- *flaky*: tests that differed once but not consistently, in {repeats} repeats on each side.
- The times are in seconds, from one run each on a machine that also did other work: they show that
  nothing hangs, not how fast it is.

"""
COLUMNS = (
    *("project", "version", "Python", "passed", "failed", "skipped", "only theirs", "only ours"),
    *("flaky", "s, theirs", "s, ours", "ours", "date"),
)


def page(rows: Sequence[Row]) -> str:
    """Return the whole page."""
    head = HEAD.format(reference=" or ".join(sorted({r.reference for r in rows})), repeats=REPEATS)
    lines = [_line(COLUMNS), _line(["---", "---", "---", *["---:"] * 8, "---", "---"])]
    return head + "\n".join([*lines, *(_line(cells(row)) for row in rows)]) + "\n" + _named(rows)


def _line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def cells(row: Row) -> list[str]:
    """Return the cells of one row, in the order of ``COLUMNS``."""
    results = row.results
    if results is None:
        counted = ["no tests in its source", *[""] * 7]
    else:
        lists = (results.worse, results.better, results.flaky)
        counted = [
            *(str(results.passed), str(len(results.failed_on_both)), str(results.skipped)),
            *(str(len(each)) for each in lists),
            *(f"{results.seconds_theirs:.1f}", f"{results.seconds_ours:.1f}"),
        ]
    project = f"{row.project}, adapter" if row.suite.startswith("adapter-") else row.project
    return [project, row.version, row.python, *counted, row.ours, row.date]


def _named(rows: Sequence[Row]) -> str:
    """Return the sections that list the names of the counted tests."""
    differing: list[str] = []
    failing: list[str] = []
    expected: list[str] = []
    for row in rows:
        if row.results is None:
            continue
        where = f"{row.project} {row.version}, Python {row.python}"
        differing += [f"- {where}, only theirs: `{test}`" for test in row.results.worse]
        differing += [f"- {where}, only ours: `{test}`" for test in row.results.better]
        differing += [f"- {where}, flaky: {_told(each)}" for each in row.results.flaky]
        expected += [f"- {where}: `{test}`: {reason}" for test, reason in row.results.expected]
        failing += [f"- {where}: `{test}`" for test in row.results.failed_on_both]
    return (
        _section("Tests that differ", differing)
        + _section("Tests that differ on purpose", expected)
        + _section("Tests that fail on both", failing)
    )


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join(["", f"## {title}", "", *lines, ""]) if lines else ""


def _told(flaky: Flaky) -> str:
    def passes(outcomes: Sequence[str]) -> str:
        return f"{sum(each == 'passed' for each in outcomes)} of {len(outcomes)} times"

    theirs, ours = passes(flaky.theirs), passes(flaky.ours)
    return f"`{flaky.test}` passed {theirs} with theirs, {ours} with ours"
