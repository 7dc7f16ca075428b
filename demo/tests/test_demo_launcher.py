"""When the launcher recreates the environment."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import run as launcher


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``run.py``, in a repository of one package."""
    source = tmp_path / "packages" / "one" / "src" / "one.py"
    source.parent.mkdir(parents=True)
    for path in (source, tmp_path / "run.py", tmp_path / "requirements.txt"):
        path.write_text("something\n")
    monkeypatch.setattr(launcher, "__file__", str(tmp_path / "run.py"))
    monkeypatch.setattr(launcher, "REPOSITORY", tmp_path)
    monkeypatch.setattr(launcher, "REQUIREMENTS", tmp_path / "requirements.txt")
    return launcher


@pytest.mark.parametrize(
    "change",
    ["packages/one/src/one.py", "packages/one/pyproject.toml", "requirements.txt", "run.py"],
)
def test_a_changed_input_makes_a_new_environment(run: ModuleType, change: str) -> None:
    before = run.compute_fingerprint()
    assert run.compute_fingerprint() == before
    (run.REPOSITORY / change).write_text("something else\n")
    assert run.compute_fingerprint() != before


def test_what_python_leaves_behind_changes_nothing(run: ModuleType) -> None:
    before = run.compute_fingerprint()
    cache = run.REPOSITORY / "packages" / "one" / "src" / "__pycache__"
    cache.mkdir()
    (cache / "one.pyc").write_bytes(b"x")
    assert run.compute_fingerprint() == before
