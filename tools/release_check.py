"""List the components to release, and refuse broken ones: ``python tools/release_check.py``.

A version is released once; its tag ``NAME-VERSION`` marks the commit of the uploaded files.

- If the current version has a tag, the installed files must equal those of the tag: ``src/``,
  LICENSE, and the distribution's metadata in pyproject.toml. Tests, documentation, change notes,
  test settings and the ``tests`` extra may differ; they wait for the next release.
- A version without a tag is new. It needs a CHANGELOG section or notes, a number above all tags of
  the component, and a place in the ranges of our packages that depend on the component.
- A tag may be missing from this clone only, so a shallow clone without any tag of the component, or
  a dated CHANGELOG section without its tag, is refused. Needs ``packaging`` and git.
"""

import enum
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import ROOT, Component, find_components, in_upload_order
from packaging.version import Version

__all__ = ["Release", "ReleaseState", "check"]


@dataclass(frozen=True, slots=True)
class Repository:
    """A checkout, as git sees it. Every method exits the program if git cannot answer."""

    root: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            sys.exit("git is not installed, and only it knows what was released: install git")
        if done.returncode:
            sys.exit(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
        return done.stdout

    def tags(self) -> set[str]:
        return set(self.git("tag", "--list").split())

    def is_shallow(self) -> bool:
        return self.git("rev-parse", "--is-shallow-repository").strip() == "true"

    def changed_since(self, tag: str, folder: Path) -> list[str]:
        """Return the files in a folder that differ from the tag, relative to the folder.

        Uncommitted changes count too: a build would include them in the release.
        """
        here = ["-z", "--", str(folder)]
        differ = self.git("diff", "--name-only", "--relative", tag, *here)
        new = self.git("ls-files", "--others", "--exclude-standard", *here)
        prefix = f"{folder.relative_to(self.root).as_posix()}/"
        return sorted(name.removeprefix(prefix) for name in {*(differ + new).split("\0")} - {""})

    def read_at(self, tag: str, path: Path) -> str:
        """Return the file's content at the tag, or an empty string if it did not exist."""
        name = path.relative_to(self.root).as_posix()
        exists = self.git("ls-tree", "--name-only", tag, "--", name)
        return self.git("show", f"{tag}:./{name}") if exists else ""


class ReleaseState(enum.Enum):
    UNCHANGED = "as released"
    TO_RELEASE = "to release"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Release:
    """What to do with a component. The reason is one sentence; that of a refusal has the remedy."""

    component: Component
    state: ReleaseState
    reason: str

    def __str__(self) -> str:
        return f"{self.component.name} {self.component.version}: {self.state.value}: {self.reason}"


def decide(component: Component, ours: Sequence[Component], repository: Repository) -> Release:
    """Decide whether to release the component, with a one-sentence reason."""
    released = versions_released(component, repository.tags())
    refusal = refuse_missing_tags(component, released, repository)
    if component.version in released:
        changed = repository.changed_since(component.tag, component.folder)
        refusal = refusal or refuse_changes(component, changed, repository)
        waiting = "only tests or documentation changed, which wait for the next version"
        state, reason = ReleaseState.UNCHANGED, waiting if changed else "nothing changed"
    else:
        refusal = refusal or refuse_new_version(component, ours, released)
        state = ReleaseState.TO_RELEASE
        reason = f"after {max(released)}" if released else "its first release"
        if component.has_news():
            reason += f"; assemble its notes first: `tox run -e notes -- {component.name}`"
    if refusal:
        return Release(component, ReleaseState.REFUSED, refusal)
    return Release(component, state, reason)


def versions_released(component: Component, tags: set[str]) -> set[Version]:
    """Return the tagged versions. (The tags of other components start with ``asgiref-`` too.)"""
    found = (re.fullmatch(rf"{component.name}-(\d.*)", tag) for tag in tags)
    return {Version(match[1]) for match in found if match}


def refuse_missing_tags(
    component: Component, released: set[Version], repository: Repository
) -> str | None:
    if not released and repository.is_shallow():
        return (
            "this clone is shallow and has no tag of it, so its releases are unknown: "
            "run `git fetch --unshallow --tags`"
        )
    for section in component.sections():
        if section.is_released and Version(section.version) not in {*released, component.version}:
            tag = f"{component.name}-{section.version}"
            return (
                f"its CHANGELOG dates {section.version}, but there is no tag {tag}: "
                "run `git fetch --tags`, or tag the commit that was released"
            )
    return None


def refuse_changes(component: Component, changed: list[str], repository: Repository) -> str | None:
    project = component.folder / "pyproject.toml"
    then, now = repository.read_at(component.tag, project), project.read_text("utf-8")
    installed = [name for name in changed if name.startswith("src/") or name == "LICENSE"]
    if metadata(then) != metadata(now):
        installed.append(project.name)
    if not installed:
        return None
    more = f" and {len(installed) - 1} more" if len(installed) > 1 else ""
    return (
        f"{installed[0]}{more} changed since the tag {component.tag}: set a new version in "
        f"{component.version_file.relative_to(repository.root)}, and add a note of the changes"
    )


def metadata(pyproject: str) -> dict[str, Any]:
    """Return the tables of pyproject.toml that describe the distribution."""
    described = tomllib.loads(pyproject)
    described.get("project", {}).get("optional-dependencies", {}).pop("tests", None)
    return {**described, "tool": described.get("tool", {}).get("flit")}


def refuse_new_version(
    component: Component, ours: Sequence[Component], released: set[Version]
) -> str | None:
    version, folder = component.version, f"packages/{component.folder.name}"
    if released and max(released) > version:
        return f"{max(released)} is released already: set a version above that"
    told = any(each.text and each.version == str(version) for each in component.sections())
    if not component.notes() and not told:
        return f"nothing says what is new in {version}: add a note, {folder}/changes/+SLUG.KIND.md"
    for other in ours:
        for need in other.needs:
            if need.name == component.name and not need.specifier.contains(version, True):
                place = f"packages/{other.folder.name}/pyproject.toml"
                return f"{other.name} asks for {need}: raise the range in {place}"
    return None


def check(root: Path = ROOT) -> list[Release]:
    """Judge all components, in upload order."""
    components = in_upload_order(find_components(root))
    return [decide(component, components, Repository(root)) for component in components]


if __name__ == "__main__":
    releases = check()
    print(*releases, sep="\n")
    sys.exit(any(each.state is ReleaseState.REFUSED for each in releases))
