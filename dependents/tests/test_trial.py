"""From two runs of a suite to its row: a planted test that passes only with asgiref is caught."""

from dataclasses import dataclass, field

import pytest

from dependents import comparison
from dependents.environment import Side
from dependents.projects import Project, SuiteError
from dependents.results import Row
from dependents.trial import compare, runs_of

from .test_running import ThisPython

ROW = Row("it", "it", "1.0", "3.13.0", "2026-01-31", "3.13.0", "3.13.100")
SUITE = """
import pathlib
SIDE = pathlib.Path("side").read_text()

def test_passes(): pass
def test_fails(): assert False
def test_planted(): assert SIDE != {worse!r}
"""
REPEATS = 2
PLANTED = "tests/test_it.py::test_planted"


@dataclass(slots=True)
class Sides(ThisPython):
    """An environment that writes the name of its side into a file instead of installing it."""

    switches: list[Side] = field(default_factory=list)

    def switch_to(self, side):
        if side is not self.side or not self.switches:
            self.switches.append(side)
        self.side = side
        (self.path / "side").write_text(side.name, "utf-8")


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Compare a suite in which one test fails on the given side; return its row and environment."""
    monkeypatch.setattr(comparison, "REPEATS", REPEATS)

    def compare_it(worse, **fields):
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests" / "test_it.py").write_text(SUITE.format(worse=worse), "utf-8")
        project, environment = Project("it", "it", **fields), Sides(tmp_path)
        row = compare(project, ROW, runs_of(project, tmp_path, environment, tmp_path))
        return row, environment

    return compare_it


def test_two_equal_runs_need_one_switch(compared):
    row, environment = compared(worse=None)
    assert (row.passed, row.failed) == (2, ["tests/test_it.py::test_fails"])
    assert (row.worse, row.better, row.flaky, row.known) == ([], [], {}, {})
    assert environment.switches == [Side.THEIRS, Side.OURS]


def test_a_test_that_passes_only_with_asgiref_is_worse_by_name(compared):
    row, environment = compared(worse="OURS")
    assert row.worse == [PLANTED]
    assert row.passed == 1
    assert environment.switches == [Side.THEIRS, Side.OURS] * 2
    assert len(list(environment.path.glob("*.log"))) == 2 + 2 * REPEATS


def test_a_test_that_passes_only_with_ours_is_better(compared):
    row, _ = compared(worse="THEIRS")
    assert (row.worse, row.better) == ([], [PLANTED])


def test_a_known_difference_is_listed_with_its_reason(compared):
    row, _ = compared(worse="OURS", known={PLANTED: "on purpose"})
    assert (row.worse, row.known) == ([], {PLANTED: "on purpose"})


def test_a_known_difference_that_is_gone_must_be_removed(compared):
    with pytest.raises(SuiteError, match=r"remove them from `known`.*test_planted"):
        compared(worse=None, known={PLANTED: "on purpose"})
