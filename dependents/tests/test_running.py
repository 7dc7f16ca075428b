"""One run of a suite: its records, and its error message if it does not finish."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dependents import running
from dependents.environment import Environment
from dependents.errors import SuiteError
from dependents.outcomes import Outcome
from dependents.running import run
from dependents.suite import Suite

RECORD = "import json, os\nfile = open(os.environ['DEPENDENTS_OUTCOMES'], 'a')\n"


@dataclass(frozen=True, slots=True)
class Program:
    """A runner whose tests are a program that records the given outcomes."""

    text: str
    folder: str = "."
    needs: str = ""

    def arguments(self, source, tests=()):
        return ["-c", RECORD + self.text, *tests]


def recording(*lines):
    return (
        "".join(f"file.write({json.dumps(line) + chr(10)!r})\n" for line in lines)
        + "file.close()\n"
    )


@pytest.fixture
def run_program(tmp_path):
    def run_it(text, **settings):
        suite = Suite("suite", "project", Program(text), **settings)
        return run(suite, tmp_path, Environment(Path(sys.prefix)), tmp_path / "0-ours")

    return run_it


def test_a_run_gives_outcomes_and_time(run_program):
    text = recording(
        {"test": "a", "outcome": "passed"}, {"test": "b", "outcome": "failed"}, {"end": 1}
    )
    done = run_program(text)
    assert done.recorded.outcomes == {"a": Outcome.PASSED, "b": Outcome.FAILED}
    assert done.seconds > 0


def test_a_suite_that_dies_is_told_with_its_last_words(run_program):
    text = recording({"test": "a", "outcome": "passed"}) + "raise SystemExit('out of luck')"
    with pytest.raises(SuiteError, match=r"did not come to its end, 1 tests in(.|\n)*out of luck"):
        run_program(text)


@pytest.mark.parametrize("lines", [[{"end": 0}], [{"test": "a", "outcome": "passed"}, {"end": 2}]])
def test_no_tests_and_an_unusual_end_are_no_verdict(run_program, lines):
    with pytest.raises(SuiteError, match="did not come to its end"):
        run_program(recording(*lines))


HOLDER = "import fcntl; fcntl.flock(open('held', 'w'), fcntl.LOCK_EX); input()"


def test_a_suite_that_hangs_is_ended_with_all_that_it_started(run_program, monkeypatch, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(running, "WHOLE_RUN_SECONDS", 1)
    (tmp_path / "held").touch()  # on a slow machine the program may end before it creates this
    text = recording({"test": "a", "outcome": "passed"}) + (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {HOLDER!r}],"
        " stdin=subprocess.PIPE)\n"
        "child.wait()\n"
    )
    with pytest.raises(SuiteError, match="still ran after 1 s"):
        run_program(text)
    with (tmp_path / "held").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the holder's death frees it, or this hangs


def test_the_source_stands_in_the_suites_environment(run_program, tmp_path):
    text = "print(os.environ['HELPERS'])\n" + recording(
        {"test": "a", "outcome": "passed"}, {"end": 0}
    )
    run_program(text, environ={"HELPERS": "{source}/helpers"})
    said = (tmp_path / "0-ours.log").read_text("utf-8")
    assert said.strip() == f"{tmp_path}/helpers"
