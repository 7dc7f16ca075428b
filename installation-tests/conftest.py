import shutil
import subprocess
from pathlib import Path

import pytest
from instructions import instructions
from terminal import Terminal, copy_checkout


@pytest.fixture(scope="session")
def built_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with wheels that were built as the README says."""
    folder = tmp_path_factory.mktemp("built")
    clone = folder / "clone"
    copy_checkout(clone)
    building = next(each for each in instructions() if each.builds_wheels)
    Terminal.open(clone, folder).type(building.commands)
    return clone


@pytest.fixture
def terminal(built_clone: Path, tmp_path: Path) -> Terminal:
    """A terminal in a copy of the clone and its wheels, with an empty environment."""
    clone = tmp_path / "clone"
    shutil.copytree(built_clone, clone, ignore=shutil.ignore_patterns(".venv"))
    return Terminal.open(clone, tmp_path)


@pytest.fixture
def committed(terminal: Terminal) -> Terminal:
    """A terminal whose clone is a git repository with one commit of all files."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git = ["git", "-C", str(terminal.clone), "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for arguments in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    return terminal
