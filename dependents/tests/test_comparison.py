"""Which tests count as worse with ours, and how repeats classify them."""

import pytest

from dependents.comparison import REPEATS, Verdict, alike, find_differences
from dependents.environment import Side
from dependents.junit import Outcome

PASSED, FAILED, SKIPPED, MISSING = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, None


def outcomes(**tests):
    return {test: outcome for test, outcome in tests.items() if outcome is not MISSING}


class Runs:
    """Repeats with preset outcomes of the test ``t``; runs without a preset outcome pass."""

    def __init__(self, theirs=(), ours=(), whole=PASSED):
        self.left = {Side.THEIRS: list(theirs), Side.OURS: list(ours)}
        self.whole = whole
        self.asked = []

    def __call__(self, side, tests):
        self.asked.append((side, tuple(tests)))
        if not tests:
            return outcomes(t=self.whole)
        return outcomes(t=self.left[side].pop(0) if self.left[side] else PASSED)


def difference(theirs, ours, runs):
    [found] = find_differences(outcomes(t=theirs), outcomes(t=ours), (), runs)
    return found


@pytest.mark.parametrize("outcome", Outcome)
def test_a_test_with_the_same_outcome_on_both_sides_is_not_repeated(outcome):
    runs = Runs()
    assert alike(outcomes(t=outcome), outcomes(t=outcome), outcome) == {"t"}
    assert find_differences(outcomes(t=outcome), outcomes(t=outcome), (), runs) == []
    assert runs.asked == []


def test_a_test_that_fails_on_one_side_and_is_missing_on_the_other_counts_as_equal():
    assert alike(outcomes(t=FAILED), outcomes(), FAILED) == {"t"}


@pytest.mark.parametrize("ours", [FAILED, MISSING, SKIPPED])
def test_a_test_that_never_passes_with_ours_is_worse(ours):
    runs = Runs(ours=[ours] * REPEATS)
    found = difference(PASSED, ours, runs)
    assert found.verdict is Verdict.WORSE
    assert runs.asked == [(side, ("t",)) for side in Side for _ in range(REPEATS)]
    assert found.told() == f"passed 6 of {REPEATS + 1} times with theirs, 0 of 6 times with ours"


def test_a_test_that_is_skipped_with_theirs_and_fails_with_ours_is_worse():
    runs = Runs(theirs=[SKIPPED] * REPEATS, ours=[FAILED] * REPEATS)
    assert difference(SKIPPED, FAILED, runs).verdict is Verdict.WORSE


def test_a_test_that_fails_twice_with_ours_and_never_with_theirs_is_worse():
    assert difference(PASSED, FAILED, Runs(ours=[FAILED])).verdict is Verdict.WORSE


def test_a_test_that_fails_again_only_among_all_tests_is_worse():
    runs = Runs(whole=FAILED)
    assert difference(PASSED, FAILED, runs).verdict is Verdict.WORSE
    assert runs.asked[-1] == (Side.OURS, ())


@pytest.mark.parametrize(
    "runs",
    [
        Runs(),
        Runs(theirs=[FAILED], ours=[FAILED, FAILED]),
        Runs(theirs=[FAILED], ours=[FAILED] * REPEATS),
    ],
    ids=["failed once", "varies on both sides", "varies with theirs"],
)
def test_a_test_without_a_consistent_difference_is_flaky(runs):
    assert difference(PASSED, FAILED, runs).verdict is Verdict.FLAKY


def test_a_test_that_passes_only_with_ours_is_better():
    assert difference(FAILED, PASSED, Runs(theirs=[FAILED] * REPEATS)).verdict is Verdict.BETTER


def test_a_known_test_is_neither_repeated_nor_reported():
    runs = Runs()
    assert find_differences(outcomes(t=PASSED), outcomes(t=FAILED), {"t": "why"}, runs) == []
    assert runs.asked == []


def test_very_many_differences_count_without_repeats():
    theirs = {f"t{number}": PASSED for number in range(1000)}
    runs = Runs()
    found = find_differences(theirs, {}, (), runs)
    assert [each.verdict for each in found] == [Verdict.WORSE] * 1000
    assert runs.asked == []
