"""One run of a suite: its report, and its error message if it does not finish."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dependents import running
from dependents.environment import Environment
from dependents.junit import Outcome
from dependents.projects import Project, SuiteError
from dependents.running import run

HOLDER = "import fcntl; fcntl.flock(open('held', 'w'), fcntl.LOCK_EX); input()"


@dataclass(slots=True)
class ThisPython(Environment):
    """An environment whose Python is the running one."""

    @property
    def python(self):
        return Path(sys.executable)


@pytest.fixture
def run_suite(tmp_path):
    """Run a suite that consists of one module."""

    def run_it(text, tests=(), **fields):
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests" / "test_it.py").write_text(text, "utf-8")
        environment = ThisPython(tmp_path)
        return run(Project("it", "it", **fields), tmp_path, environment, tmp_path / "ours", tests)

    return run_it


def test_a_run_gives_outcomes_and_its_duration(run_suite):
    done = run_suite("def test_a(): pass\ndef test_b(): assert False\n")
    assert done.outcomes == {
        "tests/test_it.py::test_a": Outcome.PASSED,
        "tests/test_it.py::test_b": Outcome.FAILED,
    }
    assert done.seconds > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def test_a(): import os; os._exit(0)", "ended with 0 and without results"),
        ("import pytest\ndef test_a(): pytest.exit('bad luck', 3)", "ended with 3(.|\n)*bad luck"),
        ("", "ended with 5"),
    ],
)
def test_a_suite_without_results_is_an_error_that_shows_its_last_output(run_suite, text, message):
    with pytest.raises(SuiteError, match=message):
        run_suite(text)


def test_a_suite_that_hangs_is_ended_with_all_that_it_started(run_suite, monkeypatch, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(running, "WHOLE_RUN_SECONDS", 1)
    (tmp_path / "held").touch()  # on a slow machine the program may end before it creates this
    with pytest.raises(SuiteError, match="still ran after 1 s"):
        run_suite(
            "import subprocess, sys\n"
            f"child = subprocess.Popen([sys.executable, '-c', {HOLDER!r}], stdin=subprocess.PIPE)\n"
            "child.wait()\n"
        )
    with (tmp_path / "held").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the holder's death frees it, or this hangs


def test_the_script_before_the_tests_prepares_their_folder_and_environment(run_suite):
    done = run_suite(
        "import os\ndef test_it(): assert os.environ['HELPERS'] == open('made').read()",
        before='export HELPERS=$PWD; printf "%s" "$PWD" > made; sleep 600 &',
    )
    assert set(done.outcomes.values()) == {Outcome.PASSED}


def test_a_script_that_fails_is_an_error_with_its_message(run_suite):
    with pytest.raises(SuiteError, match=r"ended with 3(.|\n)*install redis-server"):
        run_suite("def test_it(): pass", before="echo install redis-server; exit 3")
