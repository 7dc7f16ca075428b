"""Tags, files and notes of a repository decide which of its components may be released."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from build_dists import ROOT
from release import main

FOLDER = "packages/asgiref-sync"
PYPROJECT = """\
build-system = {{requires = ["flit_core<5"], build-backend = "flit_core.buildapi"}}
tool.flit.module.name = "asgiref.{module}"
tool.pytest.ini_options.timeout = 60
[project]
name = "{name}"
dynamic = ["version", "description"]
dependencies = {needs}
optional-dependencies.tests = ["pytest>=8"]
"""
CHANGELOG = "# Changes\n\n<!-- towncrier release notes start -->\n\n## 1.0.0 ({})\n\n- First.\n"
CODE = '"""The answer."""\n\n__version__ = "1.0.0"\nANSWER = 42\n'
SYNC = "src/asgiref/sync/__init__.py"

#: An edit of a file of asgiref-sync: its path, the old text (none: append), the new text.
Edit = tuple[str, str, str]
ANSWER: Edit = (SYNC, "42", "43")
BUG_FIX: Edit = (SYNC, "1.0.0", "1.0.1")
NOTE: Edit = ("changes/+x.fix.md", "", "Another answer.\n")
TWO_SECTIONS: Edit = ("CHANGELOG.md", "", "## 1.0.1 (unreleased)\n## 1.0.1 (2026-11-02)\n")


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", root, *arguments], check=True)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def edit(root: Path, *edits: Edit) -> None:
    for name, old, new in edits:
        path = root / FOLDER / name
        text = path.read_text("utf-8") if path.exists() else ""
        assert old in text
        write(path, text.replace(old, new) if old else text + new)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of asgiref-sync 1.0.0, which is released, and of asgiref, which needs it."""
    if not shutil.which("git"):
        pytest.skip("git is not installed (Debian and Ubuntu: apt install git)")
    root = tmp_path_factory.mktemp("released")
    for name, module, needs, date in (
        ("asgiref-sync", "sync", [], "2026-11-01"),
        ("asgiref", "all", ["Asgiref_Sync>=1.0,<2"], "unreleased"),
    ):
        folder = root / "packages" / name
        write(folder / "pyproject.toml", PYPROJECT.format(name=name, module=module, needs=needs))
        write(folder / "src/asgiref" / module / "__init__.py", CODE)
        write(folder / "LICENSE", "Yours.\n")
        write(folder / "CHANGELOG.md", CHANGELOG.format(date))
    write(root / ".gitignore", "__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    git(root, *person, "commit", "--quiet", "--message", "Release asgiref-sync 1.0.0")
    git(root, "tag", "asgiref-sync-1.0.0")
    return root


@pytest.fixture
def checkout(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, away from the repository of a commit hook that runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    return shutil.copytree(released, tmp_path / "checkout")


@pytest.mark.parametrize(
    ("verdict", "edits"),
    [
        ("1.0.0: as released: no installed file changed", []),
        ("1.0.0: as released", [("tests/test_answer.py", "", "# More.\n")]),
        ("1.0.0: as released", [("README.md", "", "More.\n")]),
        ("1.0.0: as released", [("CHANGELOG.md", "- First.", "- The first.")]),
        ("1.0.0: as released", [NOTE]),
        ("1.0.0: as released", [("src/asgiref/sync/__pycache__/x.pyc", "", "")]),
        ("1.0.0: as released", [("pyproject.toml", "timeout = 60", "timeout = 90")]),
        ("1.0.0: as released", [("pyproject.toml", "pytest>=8", "pytest>=9")]),
        ("1.0.0: REFUSED: src/asgiref/sync/__init__.py changed since the tag", [ANSWER]),
        ("1.0.0: REFUSED: src/asgiref/sync/__init__.py changed", [ANSWER, NOTE]),
        ("1.0.0: REFUSED: src/asgiref/sync/_new.py", [("src/asgiref/sync/_new.py", "", "")]),
        ("1.0.0: REFUSED: LICENSE changed", [("LICENSE", "Yours", "Mine")]),
        ("1.0.0: REFUSED: pyproject.toml changed", [("pyproject.toml", "[]", "['x']")]),
        ("1.0.0: REFUSED: pyproject.toml changed", [("pyproject.toml", "<5", "<6")]),
        ("1.0.1: to release: after 1.0.0, when its notes are in", [ANSWER, BUG_FIX, NOTE]),
        ("1.0.1: to release", [BUG_FIX, ("CHANGELOG.md", "", "## 1.0.1 (unreleased)\n")]),
        ("1.0.1: REFUSED: nothing says what is new in 1.0.1: add a note", [ANSWER, BUG_FIX]),
        ("0.9.0: REFUSED: 1.0.0 is released already", [(SYNC, "1.0.0", "0.9.0"), NOTE]),
        ("1.0.1: REFUSED: its CHANGELOG has two sections of 1.0.1", [BUG_FIX, TWO_SECTIONS]),
        (
            "1.0.1: REFUSED: its CHANGELOG dates 0.9.0, which has no tag: run `git fetch --tags`",
            [BUG_FIX, NOTE, ("CHANGELOG.md", "## 1.0.0", "## 0.9.0")],
        ),
    ],
)
def test_a_changed_component_is_released_only_with_a_new_version_and_a_note(
    verdict: str,
    edits: Sequence[Edit],
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(checkout, *edits)
    monkeypatch.setattr("release.rehearse", lambda *_: print("rehearsed"))
    if "REFUSED" in verdict:
        with pytest.raises(SystemExit, match="refused"):
            main([], checkout)
    else:
        main(["--check"], checkout)
    ours, meta = capsys.readouterr().out.splitlines()  # in upload order, and nothing was built
    assert ours.startswith(f"asgiref-sync {verdict}")
    assert meta == "asgiref 1.0.0: to release: its first release"


def test_a_clone_that_may_lack_tags_is_refused(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", checkout.as_uri(), "clone")
    with pytest.raises(SystemExit, match="git fetch --unshallow --tags"):
        main(["--check"], tmp_path / "clone")
    shutil.rmtree(checkout / ".git")
    with pytest.raises(SystemExit, match="`git rev-parse --is-shallow-repository` failed"):
        main(["--check"], checkout)


def test_towncrier_writes_the_section_that_a_release_needs(checkout: Path) -> None:
    edit(checkout, BUG_FIX, NOTE, ("changes/+y.breaking.md", "", "Can do less, and\nmore.\n"))
    for name in ("towncrier.toml", "tools/changelog.jinja"):
        write(checkout / name, (ROOT / name).read_text("utf-8"))
    build = [sys.executable, "-P", "-m", "towncrier", "build", "--config", "towncrier.toml"]
    build += ["--yes", "--dir", FOLDER, "--version", "1.0.1", "--date", "2026-11-23"]
    subprocess.run(build, cwd=checkout, check=True)
    written = (checkout / FOLDER / "CHANGELOG.md").read_text("utf-8")
    notes = "- Breaking: Can do less, and\n  more.\n- Another answer.\n\n"
    assert written.replace(f"## 1.0.1 (2026-11-23)\n\n{notes}", "") == CHANGELOG.format(
        "2026-11-01"
    )
    assert list((checkout / FOLDER / "changes").glob("*.md")) == []
    main(["--check"], checkout)
    edit(checkout, ("changes/no-kind.md", "", "Lost?\n"))
    assert subprocess.run(build, cwd=checkout).returncode == 1
