"""List the components to release, and refuse broken ones: ``python tools/release_check.py``.

A version is released once; its tag ``NAME-VERSION`` marks the commit of the uploaded files.

- If the current version has a tag, the installed files must equal those of the tag: ``src/``,
  LICENSE, and the distribution's metadata in pyproject.toml. Tests, documentation, change notes,
  test settings and the ``tests`` extra may differ; they wait for the next release.
- A version without a tag is new. It needs a CHANGELOG section or notes, a number above all tags of
  the component, and a place in the ranges of our packages that depend on the component.
- A tag may only be missing from this clone: a shallow clone without any tag of the component, or a
  dated CHANGELOG section without its tag, is refused. Needs ``packaging`` and git.
"""

import enum
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from change_notes import HOW_TO_NAME_A_NOTE, has_news, sections_of, tells_of, wrongly_named
from components import ROOT, Component, find_components, in_upload_order
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version
from repository import Repository

__all__ = ["State", "Verdict", "check", "judge"]


class State(enum.Enum):
    UNCHANGED = "as released"
    TO_RELEASE = "to release"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Verdict:
    component: Component
    state: State
    #: One sentence; a refusal gives the cause and the remedy.
    reason: str

    def __str__(self) -> str:
        return f"{self.component.name} {self.component.version}: {self.state.value}: {self.reason}"


def judge(component: Component, everybody: Sequence[Component], repository: Repository) -> Verdict:
    """Decide whether to release the component, with a one-sentence reason."""
    tags = repository.tags()
    refusal = (
        refuse_misnamed_notes(component)
        or refuse_missing_tags(component, tags, repository)
        or (
            refuse_changes(component, repository)
            if component.tag in tags
            else refuse_new_version(component, everybody, tags)
        )
    )
    if refusal:
        return Verdict(component, State.REFUSED, refusal)
    if component.tag in tags:
        return Verdict(component, State.UNCHANGED, what_waits(component, repository))
    return Verdict(component, State.TO_RELEASE, what_is_new(component, tags))


def refuse_misnamed_notes(component: Component) -> str | None:
    for path in wrongly_named(component):
        return f"{path.name} in its folder changes/ is no note: {HOW_TO_NAME_A_NOTE}"
    return None


def refuse_missing_tags(component: Component, tags: set[str], repository: Repository) -> str | None:
    if not versions_released(component, tags) and repository.is_shallow():
        return (
            "this clone is shallow and has no tag of it, so nobody can tell what was released: "
            "run `git fetch --unshallow --tags`"
        )
    for version in versions_dated(component):
        tag = f"{component.name}-{version}"
        if tag not in tags and version != str(component.version):
            return (
                f"its CHANGELOG dates {version}, but there is no tag {tag}: "
                "run `git fetch --tags`, or tag the commit that was released"
            )
    return None


def refuse_changes(component: Component, repository: Repository) -> str | None:
    changed = installed_files(component, repository)
    if not changed:
        return None
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    place = component.version_file.relative_to(repository.root)
    return (
        f"{changed[0]}{more} changed since the tag {component.tag}: "
        f"write a new version into {place}, and a note of what is new"
    )


def refuse_new_version(
    component: Component, everybody: Sequence[Component], tags: set[str]
) -> str | None:
    released = versions_released(component, tags)
    if released and max(released) > component.version:
        return f"{max(released)} is released already: write a version above that"
    if not tells_of(component):
        return (
            f"nothing says what is new in {component.version}: "
            f"add a note, packages/{component.folder.name}/changes/+SLUG.KIND.md"
        )
    return refuse_narrow_ranges(component, everybody)


def refuse_narrow_ranges(component: Component, everybody: Sequence[Component]) -> str | None:
    for other in everybody:
        for need in other.needs:
            if need.name == component.name and not admits(need, component.version):
                return (
                    f"{other.name} asks for {need}: "
                    f"raise the range in packages/{other.folder.name}/pyproject.toml"
                )
    return None


def admits(need: Requirement, version: Version) -> bool:
    return need.specifier.contains(version, prereleases=True)


def versions_released(component: Component, tags: set[str]) -> list[Version]:
    """Return the tagged versions. (The tags of other components start with ``asgiref-`` too.)"""
    found = []
    for tag in tags:
        if tag.startswith(f"{component.name}-"):
            try:
                found.append(Version(tag.removeprefix(f"{component.name}-")))
            except InvalidVersion:
                continue
    return found


def versions_dated(component: Component) -> list[str]:
    if not component.changelog.exists():
        return []
    sections = sections_of(component.changelog.read_text("utf-8"))
    return [section.version for section in sections if section.is_released]


def installed_files(component: Component, repository: Repository) -> list[str]:
    """Return the installed files that differ from the tag of the component's version."""
    changed = repository.changed_since(component.tag, component.folder)
    return [
        name
        for name in changed
        if name.startswith("src/")
        or name == "LICENSE"
        or (name == "pyproject.toml" and distribution_differs(component, repository))
    ]


def distribution_differs(component: Component, repository: Repository) -> bool:
    path = component.folder / "pyproject.toml"
    then = repository.read_at(component.tag, path)
    return what_is_distributed(then) != what_is_distributed(path.read_text("utf-8"))


def what_is_distributed(pyproject: str) -> dict[str, Any]:
    described = tomllib.loads(pyproject)
    described.get("project", {}).get("optional-dependencies", {}).pop("tests", None)
    flit = described.pop("tool", {}).get("flit")
    return {**described, "flit": flit}


def what_waits(component: Component, repository: Repository) -> str:
    if repository.changed_since(component.tag, component.folder):
        return "only tests or documentation changed, which wait for the next version"
    return "nothing changed"


def what_is_new(component: Component, tags: set[str]) -> str:
    released = versions_released(component, tags)
    since = f"after {max(released)}" if released else "its first release"
    if not has_news(component):
        return since
    return f"{since}; assemble its notes first: `tox run -e notes -- {component.name}`"


def check(root: Path = ROOT) -> list[Verdict]:
    """Judge all components, in upload order."""
    repository = Repository(root)
    components = in_upload_order(find_components(root))
    return [judge(component, components, repository) for component in components]


def main() -> None:
    verdicts = check()
    print("\n".join(map(str, verdicts)))
    if any(verdict.state is State.REFUSED for verdict in verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
