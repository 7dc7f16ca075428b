"""Recorders write the outcomes of real test runs, and the reader reads them back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dependents.outcomes import Outcome, read

INSIDE = Path(__file__).resolve().parent.parent / "inside"

PYTEST_SUITE = """
import os
import pytest

def test_passes(): pass

def test_fails(): assert False

def test_skips(): pytest.skip("no")

@pytest.mark.xfail
def test_fails_as_expected(): assert False

@pytest.fixture
def bad_start(): raise OSError
@pytest.fixture
def bad_end():
    yield
    raise OSError

def test_cannot_start(bad_start): pass
def test_cannot_end(bad_end): pass

def test_clears_the_environment(monkeypatch):
    for name in list(os.environ): monkeypatch.delenv(name)
"""

UNITTEST_SUITE = """
import unittest

class Case(unittest.TestCase):
    def test_passes(self): pass
    def test_fails(self): self.fail()
    def test_errs(self): raise OSError
    @unittest.skip("no")
    def test_skips(self): pass
    @unittest.expectedFailure
    def test_fails_as_expected(self): self.fail()
    @unittest.expectedFailure
    def test_passes_unexpectedly(self): pass
    def test_fails_in_a_subtest(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError
    def test_is_never_reached(self): pass

if __name__ == "__main__":
    from dependents_unittest import RecordingResult
    unittest.main(testRunner=unittest.TextTestRunner(resultclass=RecordingResult))
"""


@pytest.fixture
def run_suite(tmp_path):
    """Run a program that can import the recorders; return their records."""

    def run(text, *arguments):
        (tmp_path / "test_suite.py").write_text(text, "utf-8")
        values = {
            **os.environ,
            "PYTHONPATH": str(INSIDE),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "DEPENDENTS_OUTCOMES": str(tmp_path / "outcomes"),
        }
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=tmp_path, env=values, capture_output=True, timeout=50)
        return read(tmp_path / "outcomes")

    return run


def of(recorded, name):
    [found] = [outcome for test, outcome in recorded.outcomes.items() if test.endswith(name)]
    return found


def test_the_plugin_of_pytest_records_every_outcome(run_suite):
    options = ("--rootdir=.", "-p", "dependents_pytest", "-p", "no:cacheprovider")
    recorded = run_suite(PYTEST_SUITE, "-m", "pytest", *options, "test_suite.py")
    assert recorded.outcomes == {
        "test_suite.py::test_passes": Outcome.PASSED,
        "test_suite.py::test_fails": Outcome.FAILED,
        "test_suite.py::test_skips": Outcome.SKIPPED,
        "test_suite.py::test_fails_as_expected": Outcome.XFAILED,
        "test_suite.py::test_cannot_start": Outcome.FAILED,
        "test_suite.py::test_cannot_end": Outcome.FAILED,
        "test_suite.py::test_clears_the_environment": Outcome.PASSED,
    }
    assert recorded.exit_code == 1


def test_a_module_that_cannot_be_collected_has_failed(run_suite):
    options = ("--rootdir=.", "-p", "dependents_pytest", "-p", "no:cacheprovider")
    recorded = run_suite("import no_such_module", "-m", "pytest", *options, "test_suite.py")
    assert recorded.outcomes == {"test_suite.py": Outcome.FAILED}
    assert recorded.exit_code == 2


def test_the_result_of_unittest_records_every_outcome(run_suite):
    recorded = run_suite(UNITTEST_SUITE, "test_suite.py")
    assert recorded.outcomes == {
        "__main__.Case.test_passes": Outcome.PASSED,
        "__main__.Case.test_fails": Outcome.FAILED,
        "__main__.Case.test_errs": Outcome.FAILED,
        "__main__.Case.test_skips": Outcome.SKIPPED,
        "__main__.Case.test_fails_as_expected": Outcome.XFAILED,
        "__main__.Case.test_passes_unexpectedly": Outcome.FAILED,
        "__main__.Case.test_fails_in_a_subtest": Outcome.FAILED,
        "setUpClass (__main__.Broken)": Outcome.FAILED,
    }
    assert recorded.exit_code == 1


def test_a_run_that_dies_keeps_what_came_before_and_has_no_end(run_suite):
    dies = "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\n"
    options = ("--rootdir=.", "-p", "dependents_pytest", "-p", "no:cacheprovider")
    recorded = run_suite(dies, "-m", "pytest", *options, "test_suite.py")
    assert recorded.outcomes == {"test_suite.py::test_a": Outcome.PASSED}
    assert recorded.exit_code is None


def test_the_worst_of_several_outcomes_counts(tmp_path):
    lines = [json.dumps({"test": "t", "outcome": each}) for each in ("passed", "failed", "passed")]
    (tmp_path / "outcomes").write_text("\n".join(lines), "utf-8")
    assert read(tmp_path / "outcomes").outcomes == {"t": Outcome.FAILED}


def test_a_run_that_recorded_nothing_has_no_tests(tmp_path):
    recorded = read(tmp_path / "outcomes")
    assert recorded.outcomes == {}
    assert recorded.of("t") is Outcome.MISSING
