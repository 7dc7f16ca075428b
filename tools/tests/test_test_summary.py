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


def test_the_summary_counts_tests_and_gives_the_reasons_of_failures_and_skips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert tell(tmp_path, 0) == 0  # a run without tests
    assert capfd.readouterr().out == ""

    (tmp_path / "test_all.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest; pytest.importorskip('no_such')")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=env.xml"]
    assert subprocess.run([*command, "test_all.py", "test_module.py"], cwd=tmp_path).returncode
    capfd.readouterr()
    assert tell(tmp_path, 0) == 0
    shown, *failed = capfd.readouterr().out.split("failed: env, ")
    assert shown == SHOWN
    broken, wrong = sorted(failed)
    assert "test_all::test_broken\n" in broken
    assert "raise ValueError" in broken
    assert "test_all::test_wrong\n" in wrong
    assert "assert False" in wrong

    monkeypatch.setenv("CI", "true")  # where every program must be installed
    assert [tell(tmp_path, status) for status in (0, 3)] == [1, 3]
    assert "install the programs named above" in capfd.readouterr().err
