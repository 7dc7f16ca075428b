"""Which tests count as worse with ours, and how repeats classify them."""

import pytest

from dependents.comparison import REPEATS, Side, Verdict, compare, judge
from dependents.outcomes import Outcome, Recorded

PASSED, FAILED, SKIPPED, XFAILED, MISSING = (
    Outcome.PASSED,
    Outcome.FAILED,
    Outcome.SKIPPED,
    Outcome.XFAILED,
    Outcome.MISSING,
)


def recorded(**outcomes):
    return Recorded({t: o for t, o in outcomes.items() if o is not MISSING}, 0)


class Runs:
    """Repeats with preset outcomes of the test ``t``; runs without a preset outcome pass."""

    def __init__(self, theirs=(), ours=(), whole=PASSED):
        self.left = {Side.THEIRS: list(theirs), Side.OURS: list(ours)}
        self.whole = whole
        self.asked = []

    def __call__(self, side, tests=()):
        self.asked.append((side, tuple(tests)))
        if not tests:
            return recorded(t=self.whole)
        return recorded(t=self.left[side].pop(0) if self.left[side] else PASSED)


def judged(theirs, ours, runs):
    first = recorded(t=theirs), recorded(t=ours)
    differing = compare(*first).differing
    [difference] = judge(differing, *first, runs)
    return difference


@pytest.mark.parametrize("ours", [FAILED, MISSING, SKIPPED])
@pytest.mark.parametrize("theirs", [PASSED, XFAILED])
def test_what_passes_there_and_not_here_differs(theirs, ours):
    assert compare(recorded(t=theirs), recorded(t=ours)).differing == ("t",)


def test_what_is_skipped_there_and_fails_here_differs():
    assert compare(recorded(t=SKIPPED), recorded(t=FAILED)).differing == ("t",)


def test_tests_with_equal_outcomes_are_sorted_by_them():
    outcomes = {"a": PASSED, "b": FAILED, "c": SKIPPED, "d": XFAILED}
    found = compare(recorded(**outcomes), recorded(**outcomes))
    assert (found.passed, found.failed, found.skipped) == (("a", "d"), ("b",), ("c",))
    assert found.differing == ()


def test_nothing_is_repeated_where_nothing_differs():
    runs = Runs()
    assert judge((), recorded(t=PASSED), recorded(t=PASSED), runs) == []
    assert runs.asked == []


@pytest.mark.parametrize("ours", [FAILED, MISSING, SKIPPED])
def test_what_fails_again_at_every_repeat_is_worse(ours):
    runs = Runs(ours=[ours] * REPEATS)
    difference = judged(PASSED, ours, runs)
    assert difference.verdict is Verdict.WORSE
    assert difference.ours == (ours,) * (1 + REPEATS)
    assert runs.asked == [(side, ("t",)) for side in Side for _ in range(REPEATS)]


def test_what_fails_again_once_with_ours_and_never_with_theirs_is_worse():
    assert judged(PASSED, FAILED, Runs(ours=[FAILED])).verdict is Verdict.WORSE


def test_what_fails_again_only_among_all_tests_is_worse():
    runs = Runs(whole=FAILED)
    assert judged(PASSED, FAILED, runs).verdict is Verdict.WORSE
    assert runs.asked[-1] == (Side.OURS, ())


def test_what_never_fails_again_is_flaky_and_keeps_its_outcomes():
    difference = judged(PASSED, FAILED, Runs())
    assert difference.verdict is Verdict.FLAKY
    assert difference.ours == (FAILED, *[PASSED] * (REPEATS + 1))
    assert difference.theirs == (PASSED,) * (1 + REPEATS)


def test_what_varies_with_theirs_as_well_is_flaky():
    runs = Runs(theirs=[FAILED], ours=[FAILED, FAILED])
    assert judged(PASSED, FAILED, runs).verdict is Verdict.FLAKY


def test_what_always_fails_with_ours_and_sometimes_with_theirs_is_flaky():
    runs = Runs(theirs=[FAILED], ours=[FAILED] * REPEATS)
    assert judged(PASSED, FAILED, runs).verdict is Verdict.FLAKY


def test_what_passes_only_with_ours_is_better():
    runs = Runs(theirs=[FAILED] * REPEATS)
    assert judged(FAILED, PASSED, runs).verdict is Verdict.BETTER


def test_very_many_differences_count_as_seen():
    names = [f"t{number}" for number in range(1000)]
    theirs, ours = recorded(**dict.fromkeys(names, PASSED)), recorded()
    runs = Runs()
    differences = judge(compare(theirs, ours).differing, theirs, ours, runs)
    assert {each.verdict for each in differences} == {Verdict.WORSE}
    assert len(differences) == 1000
    assert runs.asked == []
