"""The summary of ``run_tests.py``: its counts, and its refusals in CI."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_summary import tell

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
SHOWN = """\
3 passed, 2 failed, 5 skipped
skipped: 3, because git is not installed
skipped: 1, because could not import 'no_such': No module named 'no_such'
skipped: 1, because needs Windows
"""


def test_the_summary_counts_tests_gives_reasons_and_fails_in_ci_if_a_program_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_all.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest; pytest.importorskip('no_such')")
    report = f"--junitxml={tmp_path / 'reports' / 'env.xml'}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", report]
    assert subprocess.run([*command, "test_all.py", "test_module.py"], cwd=tmp_path).returncode

    capsys.readouterr()
    monkeypatch.delenv("CI", raising=False)
    assert tell(tmp_path / "reports", 0) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(SHOWN)
    failed = sorted(shown.split("failed: env, ")[1:])
    assert [each.split()[0] for each in failed] == ["test_all::test_broken", "test_all::test_wrong"]
    assert "raise ValueError" in failed[0]
    assert "assert False" in failed[1]

    monkeypatch.setenv("CI", "true")
    assert tell(tmp_path / "reports", 0) == 1
    assert "install the programs named above" in capsys.readouterr().err
    assert tell(tmp_path / "reports", 3) == 3

    capsys.readouterr()
    assert tell(tmp_path, 0) == 0  # a run without tests
    assert capsys.readouterr().out == ""
