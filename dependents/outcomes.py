"""Read what a run recorded: the outcome of each test, and whether the suite came to its end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Outcome(Enum):
    """How a test ended. Its ``rank`` orders: a test is worse off with ours if its rank fell."""

    PASSED = "passed"
    XFAILED = "xfailed"  # failed as its authors said it would
    SKIPPED = "skipped"
    MISSING = "missing"  # known from another run, and not seen in this one
    FAILED = "failed"

    @property
    def rank(self) -> int:
        return _RANKS[self]


# A test that is gone is as bad as one that fails: neither shows anything.
_RANKS = {
    Outcome.PASSED: 2,
    Outcome.XFAILED: 2,
    Outcome.SKIPPED: 1,
    Outcome.MISSING: 0,
    Outcome.FAILED: 0,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcomes of one run by test id; ``exit_code`` is None where the suite did not end."""

    outcomes: Mapping[str, Outcome]
    exit_code: int | None

    def of(self, test: str) -> Outcome:
        return self.outcomes.get(test, Outcome.MISSING)


def read(path: Path) -> Recorded:
    """Read a file of ``dependents_record``. Of several outcomes of one test the worst counts."""
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
