"""Find the tests that differ between two runs, and repeat them to classify the difference.

These rules apply to a test whose outcome in the whole run is worse with ours than with theirs:

1. Its module is repeated `REPEATS` times on both sides.
2. If the failure does not recur with ours, the whole suite runs once more with ours, because the
   failure may depend on other modules.
3. It is *worse* if it never varied with theirs and ended worse at least twice with ours.
   Otherwise it is *flaky*, and the page shows all its outcomes.

For a test that passes only with ours, the sides are swapped. If very many tests differ, the run as
a whole is broken: nothing is repeated, and every difference counts as seen.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from .environment import Side
from .junit import Outcome, Outcomes

REPEATS = 5
TOO_MANY_TO_REPEAT = 60

Repeat = Callable[[Side, Sequence[str]], Outcomes]
"""Repeats the modules of these tests on one side, or the whole suite if there are none."""


class Verdict(Enum):
    WORSE = "worse"
    BETTER = "better"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that differed in the whole run, with its outcomes in this and all later runs."""

    test: str
    theirs: Sequence[Outcome]
    ours: Sequence[Outcome]

    @property
    def verdict(self) -> Verdict:
        needed = min(2, len(self.ours))
        if _fell_below(self.ours, self.theirs, needed):
            return Verdict.WORSE
        return Verdict.BETTER if _fell_below(self.theirs, self.ours, needed) else Verdict.FLAKY

    def seen_once(self) -> bool:
        """Whether a failure with ours did not recur."""
        return self.ours[0] < max(self.theirs) <= min(self.ours[1:])

    def told(self) -> str:
        def passes(outcomes: Sequence[Outcome]) -> str:
            return f"{outcomes.count(Outcome.PASSED)} of {len(outcomes)} times"

        return f"passed {passes(self.theirs)} with theirs, {passes(self.ours)} with ours"


def _fell_below(outcomes: Sequence[Outcome], steady: Sequence[Outcome], needed: int) -> bool:
    """Whether one side never varied, and the other fell below it at least `needed` times."""
    return len(set(steady)) == 1 and sum(each < steady[0] for each in outcomes) >= needed


def alike(theirs: Outcomes, ours: Outcomes, outcome: Outcome) -> set[str]:
    """Return the tests that ended in this way on both sides."""
    tests, missing = theirs.keys() | ours.keys(), Outcome.FAILED
    return {t for t in tests if theirs.get(t, missing) == ours.get(t, missing) == outcome}


def find_differences(
    theirs: Outcomes, ours: Outcomes, known: Iterable[str], repeat: Repeat
) -> list[Difference]:
    """Repeat the tests that differ, without the known ones; return their outcomes in every run."""
    same = {test for outcome in Outcome for test in alike(theirs, ours, outcome)}
    tests = sorted((theirs.keys() | ours.keys()) - same - set(known))
    runs = {Side.THEIRS: [theirs], Side.OURS: [ours]}

    def differences() -> list[Difference]:
        return [Difference(test, *(_outcomes(test, runs[side]) for side in Side)) for test in tests]

    if tests and len(tests) <= TOO_MANY_TO_REPEAT:
        for side in Side:
            runs[side] += [repeat(side, tests) for _ in range(REPEATS)]
        if any(each.seen_once() for each in differences()):
            runs[Side.OURS].append(repeat(Side.OURS, ()))
    return differences()


def _outcomes(test: str, runs: Sequence[Outcomes]) -> list[Outcome]:
    return [run.get(test, Outcome.FAILED) for run in runs]
