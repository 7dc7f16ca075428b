"""Find the tests that differ between two runs, and repeat them to classify the difference.

These rules apply to a test whose outcome in the whole run is worse with ours than with theirs:

1. Its module is repeated `REPEATS` times on both sides.
2. If the failure does not recur with ours, the whole suite runs once more with ours, because the
   failure may depend on other modules.
3. It is *worse* if it never varied with theirs and was below that at least twice with ours.
   Otherwise it is *flaky*, and the page shows all its outcomes.

For a test that only ours passes, the sides are exchanged. If very many tests differ, the run as a
whole is broken: nothing is repeated, and every difference counts as seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from .outcomes import Outcome, Recorded

REPEATS = 5
TOO_MANY_TO_REPEAT = 60


class Side(Enum):
    THEIRS = "asgiref 3.13.0"
    OURS = "ours"


class Verdict(Enum):
    WORSE = "worse"
    BETTER = "better"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that differed in the whole run, with its outcomes in this and all later runs."""

    test: str
    theirs: tuple[Outcome, ...]
    ours: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        if len(self.theirs) == len(self.ours) == 1:
            worse = self.ours[0].rank < self.theirs[0].rank
            return Verdict.WORSE if worse else Verdict.BETTER
        if _fell_below(self.ours, self.theirs):
            return Verdict.WORSE
        if _fell_below(self.theirs, self.ours):
            return Verdict.BETTER
        return Verdict.FLAKY


def _fell_below(outcomes: Sequence[Outcome], steady: Sequence[Outcome]) -> bool:
    """Whether one side fell at least twice below the other side, which never varied."""
    ranks = {each.rank for each in steady}
    return len(ranks) == 1 and sum(each.rank < min(ranks) for each in outcomes) > 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tests of both runs, each in one field; expected failures count as passed."""

    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]
    differing: tuple[str, ...]


def compare(theirs: Recorded, ours: Recorded) -> Comparison:
    """Sort the tests of both runs by outcome. A test missing on one side counts as failed."""
    alike: dict[int, list[str]] = {2: [], 1: [], 0: []}
    differing: list[str] = []
    for test in sorted(theirs.outcomes.keys() | ours.outcomes.keys()):
        rank = theirs.of(test).rank
        (alike[rank] if ours.of(test).rank == rank else differing).append(test)
    return Comparison(tuple(alike[2]), tuple(alike[1]), tuple(alike[0]), tuple(differing))


class Repeat(Protocol):
    """Repeat the modules of these tests on one side, or the whole suite if there are none."""

    def __call__(self, side: Side, tests: Sequence[str] = ()) -> Recorded: ...


def judge(
    differing: Sequence[str], theirs: Recorded, ours: Recorded, repeat: Repeat
) -> list[Difference]:
    """Repeat the tests that differ, and return the outcomes of each in every run."""
    runs = {Side.THEIRS: [theirs], Side.OURS: [ours]}
    if differing and len(differing) <= TOO_MANY_TO_REPEAT:
        for side, recorded in runs.items():
            recorded += [repeat(side, differing) for _ in range(REPEATS)]
        if any(_needs_a_whole_run(each) for each in _differences(differing, runs)):
            runs[Side.OURS].append(repeat(Side.OURS))
    return _differences(differing, runs)


def _needs_a_whole_run(difference: Difference) -> bool:
    first, *again = difference.ours
    best = max(each.rank for each in difference.theirs)
    return first.rank < best and all(each.rank >= best for each in again)


def _differences(
    differing: Sequence[str], runs: Mapping[Side, Sequence[Recorded]]
) -> list[Difference]:
    return [
        Difference(
            test,
            tuple(run.of(test) for run in runs[Side.THEIRS]),
            tuple(run.of(test) for run in runs[Side.OURS]),
        )
        for test in differing
    ]
