"""The summary at the end of ``run_tests.py``: passed, failed and skipped tests, with reasons.

Reads the JUnit reports that pytest writes in every environment (``tox.ini``). A test that needs a
program from outside the package index is skipped with the reason ``PROGRAM is not installed``.
"""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

#: The end of a failed test's report, which a truncated log of a run may lack.
FAILURE_LINES = 40


def reason_of(skip: ElementTree.Element) -> str:
    """Return why a test was skipped, without the installation hint in parentheses."""
    reason = skip.get("message", "")
    if reason == "collection skipped":  # a module; text: (file, line, "Skipped: ...")
        reason = re.findall(r"Skipped: (.*)['\"]\)$", skip.text or "")[0]
    return reason.strip().partition(" (")[0].rstrip(".")


def failure_of(environment: str, case: ElementTree.Element, failure: ElementTree.Element) -> str:
    end = (failure.text or "").rstrip().splitlines()[-FAILURE_LINES:]
    name = f"failed: {environment}, {case.get('classname')}::{case.get('name')}"
    return "\n    ".join([name, *end])


def tell(folder: Path, status: int) -> int:
    """Print the summary of all reports in a folder; return the exit code.

    CI must have every program, and skips go unread there, so a missing program is a failure.
    """
    passed, failures, skipped = 0, [], Counter[str]()
    for report in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(report).iter("testcase"):
            skip = case.find("skipped")
            failed = [*case.iterfind("failure"), *case.iterfind("error")]
            failures += [failure_of(report.stem, case, each) for each in failed[:1]]
            if skip is not None and skip.get("type") != "pytest.xfail":
                skipped[reason_of(skip)] += 1
            elif not failed:
                passed += 1
    if passed or failures or skipped:
        print(f"{passed} passed, {len(failures)} failed, {skipped.total()} skipped")
    for reason, count in skipped.most_common():
        print(f"skipped: {count}, because {reason}")
    print("\n".join(failures), end="\n" if failures else "", flush=True)
    is_missing = any(reason.endswith(" is not installed") for reason in skipped)
    if os.environ.get("CI") and is_missing and status == 0:
        print("run_tests.py: in CI, install the programs named above", file=sys.stderr)
        return 1
    return status
