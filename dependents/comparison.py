"""Which tests differ between two runs, and what repeating them says about it.

The rules, for a test whose outcome is worse with ours than with theirs in the whole run:

1. It is repeated on both sides, in the company of its module, `REPEATS` times.
2. If our repeats did not show it, the whole suite runs once more with ours: it may take the company
   of other modules.
3. It is *worse* if it never varied with theirs and fell below that at least twice with ours.
   Once in a whole run and never again is *flaky*, and so is what varies with theirs as well.

A flaky test is told with all its outcomes, never dropped. A test that only ours passes is treated
alike with the sides exchanged. Where very many differ, something broke as a whole: nothing is
repeated, and all count as they were seen.
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
    """A test that differed in the whole run, with its outcomes in that and all later runs."""

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
    """Whether the one side fell, at least twice, below the other, which never varied."""
    ranks = {each.rank for each in steady}
    return len(ranks) == 1 and sum(each.rank < min(ranks) for each in outcomes) > 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tests of both runs, each in one of these; expected failures are among the passed."""

    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]
    differing: tuple[str, ...]


def compare(theirs: Recorded, ours: Recorded) -> Comparison:
    """Sort the tests of both runs by what became of them. Missing on one side counts as failed."""
    alike: dict[int, list[str]] = {2: [], 1: [], 0: []}
    differing: list[str] = []
    for test in sorted(theirs.outcomes.keys() | ours.outcomes.keys()):
        rank = theirs.of(test).rank
        (alike[rank] if ours.of(test).rank == rank else differing).append(test)
    return Comparison(tuple(alike[2]), tuple(alike[1]), tuple(alike[0]), tuple(differing))


class Repeat(Protocol):
    """Run the modules of these tests once more, or all there is without any; on one side."""

    def __call__(self, side: Side, tests: Sequence[str] = ()) -> Recorded: ...


def judge(
    differing: Sequence[str], theirs: Recorded, ours: Recorded, repeat: Repeat
) -> list[Difference]:
    """Repeat the tests that differ and say what each was in every run."""
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
