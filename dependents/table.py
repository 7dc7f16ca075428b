"""The page that shows all rows, as Markdown."""

from collections.abc import Sequence

from .comparison import REPEATS
from .results import Flaky, Row

HEAD = """\
# The suites of those who depend on it

Each project below depends on asgiref. Its own tests ran twice in one virtual environment: with
asgiref {reference}, and with these distributions in its place. Tests are compared one by one. One
that passes there and not here fails the run; none of that kind is hidden in a sum.

`tox run -m dependents` runs them all and writes this page; `tox run -e wheels,dependents-flask`
runs one and changes its row. Each suite is fetched when it runs, in the newest release that the
running Python takes, and so is all it needs. Of Django's own suite, on SQLite, those labels run
that mention asgiref or have coroutines in them, and those that go through handlers, signals,
sessions, connections and the other modules of Django that import asgiref.

A project followed by *adapter* has tests of WSGI applications. Theirs is its own adapter, and ours
is `WsgiToAsgi` in its place. Flask and Werkzeug have no adapter: each request of their test client
goes through `WsgiToAsgi`, and back. Tests that should fail then are listed with the reason.
`dependents/results.json` holds the data.

- *passed*, *failed*, *skipped*: tests with the same outcome on both sides. What fails on both
  asks for something that the machine lacks, or for other versions of what the suite uses.
- *only theirs*, *only ours*: tests that pass on one side only, whenever they are repeated.
- *flaky*: tests that differed once and not steadily, in {repeats} repeats on each side.
- The times are those of one run each, in seconds, on a machine that did other things too: they show
  that nothing waits, not how fast it is.

"""
COLUMNS = (
    *("project", "version", "Python", "passed", "failed", "skipped", "only theirs", "only ours"),
    *("flaky", "s, theirs", "s, ours", "ours", "date"),
)


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    head = HEAD.format(reference=" or ".join(sorted({r.reference for r in rows})), repeats=REPEATS)
    lines = [_line(COLUMNS), _line(["---", "---", "---", *["---:"] * 8, "---", "---"])]
    return head + "\n".join([*lines, *(_line(cells(row)) for row in rows)]) + "\n" + _named(rows)


def _line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def cells(row: Row) -> list[str]:
    """One row's cells, in the order of ``COLUMNS``."""
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
    """The names behind the numbers, where there are any."""
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
