"""Decide which components to release, and refuse broken ones; `release` prints the verdicts.

A version is released once; its tag ``NAME-VERSION`` marks the commit of the uploaded files.

- If the current version has a tag, the installed files must equal those of the tag: ``src/``,
  LICENSE, and the distribution's metadata in pyproject.toml. Tests, documentation, change notes,
  test settings and the ``tests`` extra may differ; they wait for the next release.
- A version without a tag is new. It needs a CHANGELOG section or notes, and a number above all tags
  of the component. (If it is outside the range of a package that depends on it, pip refuses to
  install the two together, here and in the tests of the meta-package.)
- A tag may be missing from this clone only, so a shallow clone and a dated CHANGELOG section
  without its tag are refused.
"""

import enum
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from build.util import project_wheel_metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

__all__ = ["Component", "State", "Verdict", "check"]


@dataclass(frozen=True, slots=True)
class Component:
    """A folder of ``packages/``, which contains `version` of the distribution `name`."""

    folder: Path
    name: str
    version: Version
    #: The names of the run-time dependencies.
    needs: frozenset[str]

    @property
    def tag(self) -> str:
        return f"{self.name}-{self.version}"


class State(enum.Enum):
    AS_RELEASED = "as released"
    TO_RELEASE = "to release"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to release a component. The reason for a refusal includes the remedy."""

    component: Component
    state: State
    reason: str

    def __str__(self) -> str:
        return f"{self.component.name} {self.component.version}: {self.state.value}: {self.reason}"


def check(root: Path) -> list[Verdict]:
    """Judge all components, in upload order: each one after those of ours that it needs."""
    if git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        sys.exit("this clone is shallow and may lack tags: run `git fetch --unshallow --tags`")
    found = (read_component(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml")))
    ours = {component.name: component for component in found}
    graph = {name: sorted(component.needs & ours.keys()) for name, component in ours.items()}
    return [judge(ours[name]) for name in TopologicalSorter(graph).static_order()]


def read_component(folder: Path) -> Component:
    described = project_wheel_metadata(folder, isolated=False)
    needs = map(Requirement, described.get_all("Requires-Dist") or ())
    names = (canonicalize_name(need.name) for need in needs if "extra ==" not in str(need.marker))
    name = canonicalize_name(described["Name"])
    return Component(folder, name, Version(described["Version"]), frozenset[str](names))


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"`git {' '.join(arguments)}` failed in {folder}; see above")
    return done.stdout


def judge(component: Component) -> Verdict:
    tags = git(component.folder, "tag", "--list", f"{component.name}-[0-9]*").split()
    released = {Version(tag.removeprefix(f"{component.name}-")) for tag in tags}
    if component.version in released:
        state, reason = State.AS_RELEASED, "no installed file changed"
        refusal = refuse_changes(component)
    else:
        state = State.TO_RELEASE
        reason = f"after {max(released)}" if released else "its first release"
        reason += ", when its notes are in the CHANGELOG" if has_notes(component) else ""
        refusal = refuse_version(component, released)
    return Verdict(component, State.REFUSED if refusal else state, refusal or reason)


def has_notes(component: Component) -> bool:
    return any(component.folder.glob("changes/*.md"))


def refuse_changes(component: Component) -> str | None:
    # Uncommitted changes count too: a build would include them in the release.
    differ = git(component.folder, "diff", "--name-only", "--relative", component.tag)
    new = git(component.folder, "ls-files", "--others", "--exclude-standard")
    names = [each for each in (differ + new).splitlines() if re.match("src/|LICENSE$", each)]
    then = git(component.folder, "show", f"{component.tag}:./pyproject.toml")
    if metadata(then) != metadata((component.folder / "pyproject.toml").read_text("utf-8")):
        names.append("pyproject.toml")
    since = f"changed since the tag {component.tag}: set a new version, and add a note"
    return f"{', '.join(names)} {since}" if names else None


def metadata(pyproject: str) -> dict[str, Any]:
    """Return the tables of pyproject.toml that describe the distribution."""
    described = tomllib.loads(pyproject)
    described["project"].get("optional-dependencies", {}).pop("tests", None)
    return {**described, "tool": described["tool"]["flit"]}


def refuse_version(component: Component, released: Collection[Version]) -> str | None:
    version, changelog = component.version, component.folder / "CHANGELOG.md"
    titles = re.findall(r"^## (\S+) \((.+)\)$", changelog.read_text("utf-8"), re.MULTILINE)
    sections = [Version(number) for number, _ in titles]
    dated = {Version(number) for number, date in titles if date != "unreleased"}
    if lost := dated - {*released, version}:
        return f"its CHANGELOG dates {lost.pop()}, which has no tag: run `git fetch --tags`"
    if released and max(released) > version:
        return f"{max(released)} is released already: set a version above that"
    if sections.count(version) > 1:
        return f"its CHANGELOG has two sections of {version}: join them under one dated title"
    if version not in sections and not has_notes(component):
        return f"nothing says what is new in {version}: add a note, changes/+SLUG.KIND.md"
    return None
