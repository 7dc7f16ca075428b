"""The launcher: when it makes the environment anew, and what it says when it cannot."""

from __future__ import annotations

import importlib.util
import sys
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


def test_a_python_without_pip_gets_the_name_of_a_debian_package(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "runnable", lambda module: False)
    with pytest.raises(run.CannotPrepare, match="apt install python3-venv"):
        run.make_environment()


def test_only_modules_that_can_be_run_count(run: ModuleType, tmp_path: Path) -> None:
    assert run.runnable("venv")
    assert not run.runnable("no_such_module_anywhere")
    assert not run.runnable("asgiref")


def test_a_command_that_fails_is_shown_with_its_output(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    script = "import os, sys; sys.exit('%s, no luck' % os.environ.get('PIP_USER'))"
    with pytest.raises(run.CannotPrepare, match="could not get luck") as caught:
        run.call([sys.executable, "-c", script], "luck")
    assert str(caught.value).splitlines()[1:] == ["None, no luck"]
