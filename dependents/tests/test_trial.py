"""From two runs of a suite to its row."""

from pathlib import Path

import pytest

from dependents import trial
from dependents.comparison import REPEATS, Side
from dependents.outcomes import Outcome, Recorded
from dependents.results import Row
from dependents.running import Run
from dependents.suite import Pytest, Suite
from dependents.trial import Trial

ROW = Row("flask", "Flask", "3.1", "3.13.0", "2026-01-31", "3.13.0", "3.13.100")


class Environment:
    """Remembers which asgiref is installed in it."""

    def __init__(self):
        self.side = Side.THEIRS
        self.puts = []

    def put(self, side):
        self.side = side
        self.puts.append(side)


@pytest.fixture
def tried(monkeypatch):
    """Compare a suite whose tests fail as given; return the row and the switches of asgiref."""

    def try_it(**failing):
        def run(suite, source, environment, report, tests=()):
            failed = failing.get(environment.side.name.lower(), ())
            outcomes = {
                test: Outcome.FAILED if test in failed else Outcome.PASSED for test in "abc"
            }
            return Run(Recorded(outcomes, 0), 1.0)

        monkeypatch.setattr(trial, "run", run)
        environment = Environment()
        suite = Suite("flask", "Flask", Pytest())
        row = trial._compared(Trial(suite, Path(), environment, Path()), ROW)
        return row.results, environment.puts

    return try_it


def test_two_equal_runs_need_one_switch(tried):
    results, puts = tried(theirs="c", ours="c")
    assert puts == [Side.OURS]
    assert (results.passed, results.failed_on_both) == (2, ("c",))
    assert results.worse == results.better == results.flaky == ()


def test_what_fails_with_ours_at_every_run_is_worse_by_name(tried):
    results, puts = tried(theirs="c", ours="bc")
    assert results.worse == ("b",)
    assert results.passed == 1
    assert puts == [Side.OURS, Side.THEIRS, Side.OURS]


def test_what_fails_with_theirs_only_is_better(tried):
    results, _ = tried(theirs="ab")
    assert results.better == ("a", "b")
    assert results.worse == ()


def test_all_repeats_of_a_side_need_one_switch(tried):
    _, puts = tried(ours="a")
    assert len(puts) == 3 < REPEATS
