"""The summary of ``run_tests.py``: its counts, and its refusals in CI."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_summary import summarize, tell

TESTS = """
import pytest

def test_one(): pass
def test_two(): pass
@pytest.mark.xfail
def test_known(): assert False
def test_wrong(): assert False
@pytest.fixture
def broken(): raise ValueError
def test_broken(broken): pass
@pytest.mark.parametrize("number", range(3))
def test_git(number): pytest.skip("git is not installed (Debian and Ubuntu: apt install git)")
@pytest.mark.skipif(True, reason="needs Windows")
def test_windows(): pass
"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """The report of a run of these tests."""
    (tmp_path / "test_all.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest; pytest.importorskip('no_such')")
    report = f"--junitxml={tmp_path / 'reports' / 'env.xml'}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", report]
    assert subprocess.run(
        [*command, "test_all.py", "test_module.py"], cwd=tmp_path, capture_output=True
    ).returncode
    return tmp_path / "reports"


def test_the_summary_counts_and_says_why_tests_were_skipped(reports: Path) -> None:
    assert list(summarize(reports).lines())[:4] == [
        "3 passed, 2 failed, 5 skipped",
        "skipped: 3, because git is not installed",
        "skipped: 1, because could not import 'no_such': No module named 'no_such'",
        "skipped: 1, because needs Windows",
    ]


def test_the_summary_names_each_failed_test_and_quotes_its_report(reports: Path) -> None:
    wrong, broken = summarize(reports).failures
    assert broken.startswith("failed: env, test_all::test_broken\n")
    assert broken.rstrip().endswith("ValueError")
    assert wrong.startswith("failed: env, test_all::test_wrong\n")
    assert "assert False" in wrong


def test_a_missing_program_is_a_failure_in_ci_only(
    reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert tell(reports, 0) == 0
    monkeypatch.setenv("CI", "true")
    assert tell(reports, 0) == 1
    assert "install the programs named above" in capsys.readouterr().err
    assert tell(reports, 3) == 3


def test_a_run_without_tests_has_no_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(tmp_path, 0) == 0
    assert capsys.readouterr().out == ""
