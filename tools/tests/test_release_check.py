"""Tags, files and notes of the repository decide which components may be released."""

from pathlib import Path

import pytest
from projects import Project
from release_check import Release, ReleaseState, check

SYNC = "packages/asgiref-sync"
SOURCE = f"{SYNC}/src/asgiref/sync/__init__.py"


def verdict_on(project: Project, name: str = "asgiref-sync") -> Release:
    [verdict] = [each for each in check(project.root) if each.component.name == name]
    return verdict


@pytest.fixture
def released(project: Project) -> Project:
    """asgiref-sync 1.0.0 is released and tagged."""
    project.release("asgiref-sync")
    return project


def assert_refused(verdict: Release, *words: str) -> None:
    """Assert that the refusal is one sentence with the component's name and these words."""
    assert verdict.state is ReleaseState.REFUSED
    sentence = str(verdict)
    assert sentence.startswith(f"{verdict.component.name} ")
    assert "\n" not in sentence
    assert [word for word in words if word not in sentence] == []


# Nothing released yet


def test_a_first_version_with_a_section_in_its_changelog_may_be_released(project: Project) -> None:
    verdicts = check(project.root)
    assert [verdict.component.name for verdict in verdicts] == ["asgiref-sync", "asgiref-wsgi"]
    assert {verdict.state for verdict in verdicts} == {ReleaseState.TO_RELEASE}


def test_a_section_without_a_date_is_to_be_assembled_and_one_with_a_date_is_not(
    project: Project,
) -> None:
    assert "tox run -e notes -- asgiref-sync" in verdict_on(project).reason
    project.replace(f"{SYNC}/CHANGELOG.md", "(unreleased)", "(2026-11-01)")
    assert verdict_on(project).reason == "its first release"


@pytest.mark.parametrize(
    "changelog",
    [
        "# Changes of asgiref-sync\n",
        "# Changes of asgiref-sync\n\n## 1.0.0 (unreleased)\n",
        "# Changes of asgiref-sync\n\n## 0.9.0 (unreleased)\n\n- Not about 1.0.0.\n",
    ],
    ids=["no section", "empty section", "section of another version"],
)
def test_a_first_version_without_a_section_or_notes_is_refused(
    project: Project, changelog: str
) -> None:
    project.write(f"{SYNC}/CHANGELOG.md", changelog)
    assert_refused(verdict_on(project), "nothing says what is new in 1.0.0", f"{SYNC}/changes/")


def test_a_first_version_without_a_section_but_with_a_note_may_be_released(
    project: Project,
) -> None:
    project.write(f"{SYNC}/CHANGELOG.md", "# Changes of asgiref-sync\n")
    project.write(f"{SYNC}/changes/+first.feature.md", "First release.\n")
    verdict = verdict_on(project)
    assert verdict.state is ReleaseState.TO_RELEASE
    assert "tox run -e notes -- asgiref-sync" in verdict.reason


# Released


def test_a_component_unchanged_since_its_release_passes(released: Project) -> None:
    verdict = verdict_on(released)
    assert (verdict.state, verdict.reason) == (ReleaseState.UNCHANGED, "nothing changed")


def test_a_change_without_a_new_version_is_refused(released: Project) -> None:
    released.replace(SOURCE, "42", "43")
    released.commit("Change the answer")
    assert_refused(verdict_on(released), "changed since the tag asgiref-sync-1.0.0", SOURCE)


def test_a_change_with_a_note_but_without_a_new_version_is_refused(released: Project) -> None:
    released.replace(SOURCE, "42", "43")
    released.write(f"{SYNC}/changes/+answer.fix.md", "Another answer.\n")
    released.commit("Change the answer")
    assert_refused(verdict_on(released), "new version")


def test_a_change_with_a_new_version_but_without_a_note_is_refused(released: Project) -> None:
    released.replace(SOURCE, "42", "43")
    released.raise_version("asgiref-sync", "1.0.1")
    released.commit("Change the answer")
    assert_refused(verdict_on(released), "nothing says what is new in 1.0.1", f"{SYNC}/changes/")


def test_a_change_with_a_new_version_and_a_note_may_be_released(released: Project) -> None:
    released.replace(SOURCE, "42", "43")
    released.raise_version("asgiref-sync", "1.0.1")
    released.write(f"{SYNC}/changes/+answer.fix.md", "Another answer.\n")
    released.commit("Change the answer")
    verdict = verdict_on(released)
    assert verdict.state is ReleaseState.TO_RELEASE
    assert verdict.reason.startswith("after 1.0.0")


def test_a_change_that_is_not_committed_counts(released: Project) -> None:
    released.replace(SOURCE, "42", "43")
    assert_refused(verdict_on(released), "src/asgiref/sync/__init__.py")


def test_a_new_file_that_is_not_committed_counts(released: Project) -> None:
    released.write(f"{SYNC}/src/asgiref/sync/_new.py", "")
    assert_refused(verdict_on(released), "src/asgiref/sync/_new.py")


def test_a_file_that_git_ignores_does_not_count(released: Project) -> None:
    released.write(".gitignore", "__pycache__/\n")
    released.write(f"{SYNC}/src/asgiref/sync/__pycache__/x.pyc", "")
    assert verdict_on(released).state is ReleaseState.UNCHANGED


@pytest.mark.parametrize(
    "path", ["tests/test_answer.py", "README.md", "CHANGELOG.md", "changes/+test.fix.md"]
)
def test_a_change_of_tests_or_documentation_alone_waits_for_the_next_version(
    released: Project, path: str
) -> None:
    file = released.root / SYNC / path
    before = file.read_text("utf-8") if file.exists() else ""
    released.write(f"{SYNC}/{path}", f"{before}\n# More.\n")
    verdict = verdict_on(released)
    assert verdict.state is ReleaseState.UNCHANGED
    assert "wait for the next version" in verdict.reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timeout = 60", "timeout = 90"),
        ("pytest>=8", "pytest>=9"),
        ("[tool.pytest", "# Why\n[tool.pytest"),
    ],
    ids=["settings of pytest", "tests extra", "comment"],
)
def test_a_change_of_the_tests_settings_in_pyproject_waits_too(
    released: Project, old: str, new: str
) -> None:
    released.replace(f"{SYNC}/pyproject.toml", old, new)
    assert verdict_on(released).state is ReleaseState.UNCHANGED


@pytest.mark.parametrize(
    ("old", "new"),
    [("dependencies = []", "dependencies = ['x']"), ("One of two.", "One."), ("<5", "<6")],
    ids=["requirements", "description", "build tools"],
)
def test_a_change_of_the_metadata_in_pyproject_needs_a_new_version(
    released: Project, old: str, new: str
) -> None:
    released.replace(f"{SYNC}/pyproject.toml", old, new)
    assert_refused(verdict_on(released), "pyproject.toml changed since the tag asgiref-sync-1.0.0")


def test_a_change_of_another_component_does_not_count(released: Project) -> None:
    released.replace(SOURCE.replace("sync", "wsgi"), "42", "43")
    released.commit("Change the other")
    assert verdict_on(released).state is ReleaseState.UNCHANGED
    assert verdict_on(released, "asgiref-wsgi").state is ReleaseState.TO_RELEASE


# Versions


def test_a_version_below_one_that_is_released_is_refused(released: Project) -> None:
    released.raise_version("asgiref-sync", "0.9.0")
    released.write(f"{SYNC}/changes/+back.fix.md", "Back.\n")
    assert_refused(verdict_on(released), "1.0.0 is released already")


def test_a_version_outside_the_range_of_a_dependent_package_is_refused(released: Project) -> None:
    released.raise_version("asgiref-sync", "2.0.0")
    released.write(f"{SYNC}/changes/+all.breaking.md", "All is new.\n")
    assert_refused(
        verdict_on(released), "asgiref-wsgi asks for", "packages/asgiref-wsgi/pyproject.toml"
    )


def test_tags_of_a_component_whose_name_begins_with_another_s_name_are_kept_apart(
    released: Project,
) -> None:
    released.write_component("asgiref", "asgiref.all")
    assert verdict_on(released, "asgiref").reason.startswith("its first release")


# Clones without all tags


def test_a_shallow_clone_without_tags_is_told_apart_from_a_first_release(
    released: Project, tmp_path: Path
) -> None:
    released.write("unrelated", "")
    released.commit("Go on")
    clone = released.clone(tmp_path / "clone", "--depth", "1", "--no-tags")
    assert_refused(verdict_on(clone), "shallow", "git fetch --unshallow --tags")

    clone.git("fetch", "--quiet", "--unshallow", "--tags")
    assert verdict_on(clone).state is ReleaseState.UNCHANGED


def test_a_shallow_clone_with_the_tags_is_enough(released: Project, tmp_path: Path) -> None:
    released.replace(SOURCE, "42", "43")
    released.commit("Change the answer")
    clone = released.clone(tmp_path / "clone", "--depth", "1")
    clone.git("fetch", "--quiet", "--depth", "1", "--tags")
    assert_refused(verdict_on(clone), "changed since the tag asgiref-sync-1.0.0")


def test_a_clone_without_the_tag_of_a_version_that_the_changelog_dates_is_refused(
    released: Project, tmp_path: Path
) -> None:
    released.raise_version("asgiref-sync", "1.0.1")
    released.write(f"{SYNC}/changes/+answer.fix.md", "Another answer.\n")
    released.commit("Change the answer")
    clone = released.clone(tmp_path / "clone", "--no-tags")
    assert_refused(verdict_on(clone), "no tag asgiref-sync-1.0.0", "git fetch --tags")


@pytest.mark.usefixtures("git")
def test_a_folder_that_is_not_a_checkout_is_an_error(tmp_path: Path) -> None:
    Project(tmp_path / "copy").write_component("asgiref-sync", "asgiref.sync")
    with pytest.raises(SystemExit, match="not a git repository"):
        check(tmp_path / "copy")


def test_a_folder_without_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no packages"):
        check(tmp_path)
