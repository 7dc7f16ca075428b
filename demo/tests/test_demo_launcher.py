"""When the launcher recreates the environment."""

from pathlib import Path

import pytest
import run as launcher


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ("packages/one/src/one/one.py", True),
        ("packages/one/pyproject.toml", True),
        ("demo/requirements.txt", True),
        ("demo/run.py", True),
        ("packages/one/src/one/__pycache__/one.pyc", False),
    ],
)
def test_only_a_changed_input_makes_a_new_environment(
    change: str, matters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "REPOSITORY", tmp_path)
    (tmp_path / change).parent.mkdir(parents=True)
    (tmp_path / change).write_text("something\n")
    before = launcher.compute_fingerprint()
    assert launcher.compute_fingerprint() == before
    (tmp_path / change).write_text("something else\n")
    assert (launcher.compute_fingerprint() != before) is matters
