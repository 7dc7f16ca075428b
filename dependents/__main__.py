"""Run one suite, and write its row and the page: ``python -m dependents ENVIRONMENT FOLDER``.

The environment's name ends with that of the suite: ``py311-dependents-flask``. The program creates
the folder and downloads and installs into it. The status is 0 only if every test that passes with
asgiref also passes with our wheels.
"""

import sys
from pathlib import Path

from tools.command_line import make_parser

from .catalogue import SUITES
from .errors import SuiteError
from .results import Row, only_writer, put_row, replace_text
from .suite import Suite
from .table import page
from .trial import try_suite

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "dependents" / "results.json"
PAGE = ROOT / "docs" / "dependents.md"


def report(row: Row) -> int:
    """Print the content of a row; return the exit status."""
    about = f"{row.suite}: {row.project} {row.version} on Python {row.python}"
    if row.results is None:
        print(f"{about}: no tests in its source")
        return 0
    results = row.results
    print(
        f"{about}: {results.passed} passed, {len(results.failed_on_both)} failed on both,"
        f" {results.skipped} skipped on both, {len(results.better)} pass only with ours,"
        f" {len(results.flaky)} flaky; asgiref {row.reference} {results.seconds_theirs} s,"
        f" ours {results.seconds_ours} s"
    )
    for each in results.flaky:
        print(f"  flaky: {each.test}: {', '.join(each.theirs)}; ours: {', '.join(each.ours)}")
    for test in results.better:
        print(f"  passes with ours only: {test}")
    for test, reason in results.expected:
        print(f"  passes with theirs only, on purpose: {test}: {reason}")
    for test in results.worse:
        print(f"  passes with asgiref {row.reference} and not with ours: {test}")
    return 1 if results.worse else 0


def suite_named(environment: str) -> Suite:
    """Return the suite after which a tox environment is named."""
    name = environment.rpartition("dependents-")[2]
    for suite in SUITES:
        if suite.name == name:
            return suite
    sys.exit(f"no suite is named {name}; there are {', '.join(each.name for each in SUITES)}")


def main(environment: str, folder: str) -> int:
    suite = suite_named(environment)
    place = Path(folder).resolve()
    if place.exists():
        sys.exit(f"{place} exists: name a folder that can be made")
    place.mkdir(parents=True)
    try:
        row = try_suite(suite, place)
    except SuiteError as error:
        sys.exit(f"{suite.name}: {error}")
    with only_writer(RESULTS.parent):
        replace_text(PAGE, page(put_row(RESULTS, row)))
    return report(row)


def read_arguments() -> tuple[str, str]:
    parser = make_parser("run one suite, and write its row and the page")
    parser.prog = "python -m dependents"
    parser.add_argument("environment", metavar="ENVIRONMENT", help="as in py311-dependents-flask")
    parser.add_argument(
        "folder", metavar="FOLDER", help="one that can be made, for what is fetched"
    )
    options = parser.parse_args()
    return options.environment, options.folder


if __name__ == "__main__":
    sys.exit(main(*read_arguments()))
