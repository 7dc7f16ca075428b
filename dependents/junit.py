"""Read the JUnit XML report of a run, written by pytest or by unittest-xml-reporting.

A test that failed as its authors expect counts as passed. If a test has several entries, as with an
error in its teardown or in its subtests, the worst counts.
"""

import xml.etree.ElementTree as ET
from enum import IntEnum
from pathlib import Path


class Outcome(IntEnum):
    """How a test ended, from worst to best. A test that is missing in a run counts as failed."""

    FAILED = 0
    SKIPPED = 1
    PASSED = 2


Outcomes = dict[str, Outcome]


def read_report(path: Path) -> Outcomes:
    """Return the outcome of each test by its id, in the format of pytest or unittest."""
    outcomes: Outcomes = {}
    for suite in ET.parse(path).iter("testsuite"):
        id_of = _pytest_id if suite.get("name") == "pytest" else _unittest_id
        for case in suite.iter("testcase"):
            test = id_of(case.get("classname", ""), case.get("name", ""), case.get("file", ""))
            outcomes[test] = min(_outcome_of(case), outcomes.get(test, Outcome.PASSED))
    return outcomes


def _pytest_id(owner: str, name: str, file: str) -> str:
    if not owner:  # a module that cannot be imported
        return name.replace(".", "/") + ".py"
    classes = owner.removeprefix(file.removesuffix(".py").replace("/", ".")).split(".")
    return "::".join([file, *filter(None, classes), name])


def _unittest_id(owner: str, name: str, file: str) -> str:
    """Return ``module.Class.test`` without the parameters of a subtest."""
    method, _, details = name.partition(" ")
    # Without an owner, the entry is that of a fixture: "setUpClass (module.Class)".
    return f"{owner or details.strip('()')}.{method}"


def _outcome_of(case: ET.Element) -> Outcome:
    skipped = case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None:
        return Outcome.FAILED
    is_skipped = skipped is not None and "xfail" not in skipped.get("type", "").lower()
    return Outcome.SKIPPED if is_skipped else Outcome.PASSED
