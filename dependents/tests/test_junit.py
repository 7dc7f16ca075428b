"""The reports of real test runs are read back."""

import subprocess
import sys

import pytest

from dependents.junit import Outcome, read_report
from dependents.projects import PYTEST

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED
PYTEST_SUITE = """
import pytest

def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("no")

@pytest.mark.xfail
def test_fails_as_expected(): assert False

@pytest.mark.xfail(strict=True)
def test_passes_unexpectedly(): pass

@pytest.fixture
def bad_start(): raise OSError
@pytest.fixture
def bad_end():
    yield
    raise OSError

def test_cannot_start(bad_start): pass
def test_cannot_end(bad_end): pass

class TestGroup:
    class TestInner:
        @pytest.mark.parametrize("value", ["a.b::c", "\\0"])
        def test_value(self, value): pass
"""
UNITTEST_SUITE = """
import unittest, xmlrunner

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

with open("report.xml", "wb") as report:
    unittest.main(module="test_suite", testRunner=xmlrunner.XMLTestRunner(output=report))
"""


@pytest.fixture
def run_suite(tmp_path):
    """Run a program that writes a report; return its outcomes."""

    def run(*arguments, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text, "utf-8")
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=50)
        return read_report(tmp_path / "report.xml")

    return run


def test_every_outcome_of_pytest_is_read(run_suite):
    outcomes = run_suite(*PYTEST, "--junitxml=report.xml", "test_suite.py", test_suite=PYTEST_SUITE)
    values = "test_suite.py::TestGroup::TestInner::test_value"
    assert outcomes == {
        "test_suite.py::test_passes": PASSED,
        "test_suite.py::test_fails": FAILED,
        "test_suite.py::test_skips": SKIPPED,
        "test_suite.py::test_fails_as_expected": PASSED,
        "test_suite.py::test_passes_unexpectedly": FAILED,
        "test_suite.py::test_cannot_start": FAILED,
        "test_suite.py::test_cannot_end": FAILED,
        f"{values}[a.b::c]": PASSED,
        f"{values}[\\x00]": PASSED,
    }


def test_a_module_that_cannot_be_imported_has_failed_and_the_others_run(run_suite):
    suites = {"test_broken": "import no_such_module", "test_suite": "def test_passes(): pass"}
    outcomes = run_suite(*PYTEST, "--junitxml=report.xml", ".", **suites)
    assert outcomes == {"test_broken.py": FAILED, "test_suite.py::test_passes": PASSED}


def test_every_outcome_of_unittest_is_read(run_suite):
    outcomes = run_suite("test_suite.py", test_suite=UNITTEST_SUITE)
    assert outcomes == {
        "test_suite.Case.test_passes": PASSED,
        "test_suite.Case.test_fails": FAILED,
        "test_suite.Case.test_errs": FAILED,
        "test_suite.Case.test_skips": SKIPPED,
        "test_suite.Case.test_fails_as_expected": PASSED,
        "test_suite.Case.test_passes_unexpectedly": FAILED,
        "test_suite.Case.test_fails_in_a_subtest": FAILED,
        "test_suite.Broken.setUpClass": FAILED,
    }
