"""Read the records of a run: the outcome of each test, and whether the suite finished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Outcome(Enum):
    """How a test ended. A test is worse with ours if its ``rank`` is lower there."""

    PASSED = "passed"
    XFAILED = "xfailed"  # failed as its authors expected
    SKIPPED = "skipped"
    MISSING = "missing"  # in another run, but not in this one
    FAILED = "failed"

    @property
    def rank(self) -> int:
        return _RANKS[self]


# A missing test is as bad as a failed one: neither shows that the behaviour works.
_RANKS = {
    Outcome.PASSED: 2,
    Outcome.XFAILED: 2,
    Outcome.SKIPPED: 1,
    Outcome.MISSING: 0,
    Outcome.FAILED: 0,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcomes of one run by test id; ``exit_code`` is None if the suite did not finish."""

    outcomes: Mapping[str, Outcome]
    exit_code: int | None

    def of(self, test: str) -> Outcome:
        return self.outcomes.get(test, Outcome.MISSING)


def read(path: Path) -> Recorded:
    """Read a file of ``dependents_record``. If a test has several outcomes, the worst counts."""
    outcomes: dict[str, Outcome] = {}
    exit_code = None
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    for line in map(json.loads, lines):
        if "end" in line:
            exit_code = line["end"]
            continue
        outcome = Outcome(line["outcome"])
        known = outcomes.get(line["test"], outcome)
        outcomes[line["test"]] = min(outcome, known, key=lambda each: each.rank)
    return Recorded(outcomes, exit_code)
