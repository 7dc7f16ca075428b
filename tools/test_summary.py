"""The summary at the end of ``run_tests.py``: passed, failed and skipped tests, with reasons.

Reads the JUnit reports that pytest writes in every environment (``tox.ini``). A test that needs a
program from outside the package index is skipped with the reason ``PROGRAM is not installed``.
"""

import ast
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["Summary", "summarize", "tell"]

MISSING_PROGRAM = " is not installed"
FAILURE_LINES = 40


@dataclass(slots=True)
class Summary:
    passed: int = 0
    #: For each failed test, its name and the end of its report, which a truncated log may lack.
    failures: list[str] = field(default_factory=list)
    #: The number of skipped tests by reason.
    skipped: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        yield f"{self.passed} passed, {len(self.failures)} failed, {self.skipped.total()} skipped"
        for reason, count in self.skipped.most_common():
            yield f"skipped: {count}, because {reason}"
        yield from self.failures


def summarize(folder: Path) -> Summary:
    """Count the tests of all reports in a folder."""
    summary = Summary()
    for report in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes = {each.tag: each for each in case}
            skip, failure = outcomes.get("skipped"), outcomes.get("failure", outcomes.get("error"))
            if failure is not None:
                name = f"failed: {report.stem}, {case.get('classname')}::{case.get('name')}"
                end = (failure.text or "").rstrip().splitlines()[-FAILURE_LINES:]
                summary.failures.append("\n    ".join([name, *end]))
            elif skip is None or skip.get("type") == "pytest.xfail":
                summary.passed += 1
            else:
                summary.skipped[reason_of(skip)] += 1
    return summary


def reason_of(skip: ElementTree.Element) -> str:
    """Return why a test was skipped, without the installation hint in parentheses."""
    reason = skip.get("message", "")
    if reason == "collection skipped":  # a module; text: (file, line, "Skipped: ...")
        reason = str(ast.literal_eval(skip.text or "")[2]).removeprefix("Skipped: ")
    return reason.strip().partition(" (")[0].rstrip(".")


def tell(folder: Path, status: int) -> int:
    """Print the summary; return the exit code.

    CI must have every program, and skips go unread there, so a missing program is a failure.
    """
    summary = summarize(folder)
    if summary != Summary():
        print("\n".join(summary.lines()), flush=True)
    is_missing = any(reason.endswith(MISSING_PROGRAM) for reason in summary.skipped)
    if os.environ.get("CI") and is_missing and status == 0:
        print("run_tests.py: in CI, install the programs named above", file=sys.stderr)
        return 1
    return status
