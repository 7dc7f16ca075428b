import shutil
import subprocess
from pathlib import Path

import pytest
from projects import Project


@pytest.fixture
def git() -> None:
    """Skip the test if git is missing."""
    if not shutil.which("git"):
        pytest.skip("git is not installed (Debian and Ubuntu: apt install git)")


@pytest.fixture
def project(git: None, tmp_path: Path) -> Project:
    """A checkout with asgiref-sync, and asgiref-wsgi, which depends on it; none is released."""
    made = Project(tmp_path / "checkout")
    made.root.mkdir()
    made.git("init", "--quiet", "--initial-branch", "main")
    made.write_component("asgiref-sync", "asgiref.sync")
    made.write_component("asgiref-wsgi", "asgiref.wsgi", needs=["asgiref-sync>=1.0,<2"])
    made.commit("Begin")
    return made


@pytest.fixture(autouse=True)
def _no_configuration_of_git(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hide the user's git settings, and the repository of a commit hook that runs the tests."""
    empty = tmp_path_factory.mktemp("git") / "config"
    empty.write_text(
        '[user]\n\tname = A\n\temail = a@example.org\n[protocol "file"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(empty))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(empty))
    if not shutil.which("git"):
        return
    local = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"], check=True, capture_output=True, text=True
    )
    for name in local.stdout.split():
        monkeypatch.delenv(name, raising=False)
