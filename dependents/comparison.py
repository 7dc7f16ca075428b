"""Run a suite on both sides, compare each test, and repeat those that differ.

These rules apply to a test whose outcome in the whole run is worse with ours than with theirs:

1. Its module is repeated `REPEATS` times on both sides.
2. If the failure does not recur with ours, the whole suite runs once more with ours, because the
   failure may depend on other modules.
3. It is *worse* if it never varied with theirs and ended worse at least twice with ours.
   Otherwise it is *flaky*, and the page shows all its outcomes.

For a test that passes only with ours, the sides are swapped.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from enum import Enum

from .environment import Side
from .junit import Outcome, Outcomes
from .projects import SuiteError

REPEATS = 5

#: Runs the modules of these tests on one side, or the whole suite if there are none.
RunSide = Callable[[Side, Sequence[str]], Outcomes]


class Verdict(Enum):
    PASSED = "passed on both sides"
    SKIPPED = "skipped on both sides"
    FAILED = "failed on both sides"
    KNOWN = "differs on purpose"
    WORSE = "consistently worse with ours"
    BETTER = "consistently better with ours"
    FLAKY = "differed, but not consistently"


@dataclass(frozen=True, slots=True)
class History:
    """The outcomes of a test in every run, first in the whole runs."""

    test: str
    is_known: bool
    theirs: Sequence[Outcome]
    ours: Sequence[Outcome]

    @property
    def verdict(self) -> Verdict:
        if self.theirs[0] == self.ours[0]:
            return Verdict[self.ours[0].name]
        if self.is_known:
            return Verdict.KNOWN
        if _falls_below(self.ours, self.theirs):
            return Verdict.WORSE
        return Verdict.BETTER if _falls_below(self.theirs, self.ours) else Verdict.FLAKY

    def seen_once(self) -> bool:
        """Whether a failure with ours did not recur."""
        return self.ours[0] < max(self.theirs) <= min(self.ours[1:])

    def told(self) -> str:
        def passes(runs: Sequence[Outcome]) -> str:
            return f"{runs.count(Outcome.PASSED)} of {len(runs)} times"

        return f"passed {passes(self.theirs)} with theirs, {passes(self.ours)} with ours"


def _falls_below(outcomes: Sequence[Outcome], steady: Sequence[Outcome]) -> bool:
    """Whether one side never varied, and the other was worse at least twice."""
    return len(set(steady)) == 1 and sum(each < steady[0] for each in outcomes) >= 2


def compare(known: Container[str], run_side: RunSide) -> dict[Verdict, list[History]]:
    """Run the suite, then rerun the tests that differ; return the tests by verdict."""
    runs = {side: [run_side(side, ())] for side in Side}

    def history(test: str) -> History:
        theirs, ours = ([run.get(test, Outcome.FAILED) for run in runs[side]] for side in Side)
        return History(test, test in known, theirs, ours)

    tests = sorted({test for [outcomes] in runs.values() for test in outcomes})
    # One run does not show a consistent difference, so every difference is flaky until the repeats.
    differing = [test for test in tests if history(test).verdict is Verdict.FLAKY]
    if differing:
        for side in Side:
            runs[side] += [run_side(side, differing) for _ in range(REPEATS)]
        if any(history(test).seen_once() for test in differing):
            runs[Side.OURS].append(run_side(Side.OURS, ()))
    by = {each: [h for h in map(history, tests) if h.verdict is each] for each in Verdict}
    if stale := [each.test for each in by[Verdict.PASSED] if each.is_known]:
        raise SuiteError(f"these pass on both sides, so remove them from `known`: {stale}")
    return by
