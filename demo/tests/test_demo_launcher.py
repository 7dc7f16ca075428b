"""When the launcher recreates the environment."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

RUN = Path(__file__).resolve().parents[1] / "run.py"


@pytest.fixture
def run(tmp_path: Path) -> ModuleType:
    """``run.py`` as a module, in a repository of one package."""
    spec = importlib.util.spec_from_file_location("demo_run", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source = tmp_path / "packages" / "one" / "src" / "one.py"
    source.parent.mkdir(parents=True)
    source.write_text("a = 1\n")
    (tmp_path / "run.py").write_text("")
    (tmp_path / "requirements.txt").write_text("Flask\n")
    vars(module).update(
        __file__=str(tmp_path / "run.py"),
        REPOSITORY=tmp_path,
        REQUIREMENTS=tmp_path / "requirements.txt",
        ENVIRONMENT=tmp_path / "venv",
    )
    return module


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
