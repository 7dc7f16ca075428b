"""The distributions of this repository, as their folders describe them.

Every folder of ``packages/`` with a ``pyproject.toml`` is a distribution. There is no separate list
to keep up to date, so a new distribution is never missed. flit takes the version from the module.
A note is a file ``changes/SLUG.KIND.md``; it describes one change to users until a release moves it
into a section of the CHANGELOG (`assemble_notes`). Needs ``packaging``.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

__all__ = ["ROOT", "Component", "Section", "find_components", "in_upload_order", "split_changelog"]

ROOT = Path(__file__).resolve().parent.parent
TITLE = re.compile(r"^## (\S+) \(([^)]+)\)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """The section of one version in a CHANGELOG; `when` is a date or "unreleased"."""

    version: str
    when: str
    text: str

    @property
    def is_released(self) -> bool:
        return self.when != "unreleased"

    def __str__(self) -> str:
        return f"## {self.version} ({self.when})\n\n{self.text}".rstrip()


def split_changelog(text: str) -> tuple[str, list[Section]]:
    """Return the text before the first section, and the sections, newest first."""
    before, *parts = TITLE.split(text)
    versions, dates, texts = parts[::3], parts[1::3], map(str.strip, parts[2::3])
    return before.rstrip(), list(map(Section, versions, dates, texts))


@dataclass(frozen=True, slots=True)
class Component:
    """A folder of ``packages/``, which contains `version` of the distribution `name`."""

    folder: Path
    name: str
    version: Version
    version_file: Path
    #: Its run-time dependencies, and those of its tests.
    needs: tuple[Requirement, ...]
    test_tools: tuple[Requirement, ...]

    @property
    def tag(self) -> str:
        """The git tag of the commit that was released as this version."""
        return f"{self.name}-{self.version}"

    @property
    def changelog(self) -> Path:
        return self.folder / "CHANGELOG.md"

    def sections(self) -> list[Section]:
        return split_changelog(self.changelog.read_text("utf-8"))[1]

    def notes(self) -> list[Path]:
        """Return the notes that are pending for the next release."""
        return sorted(self.folder.glob("changes/*.md"))

    def has_news(self) -> bool:
        """Whether there are pending notes or an undated section, which a release must assemble."""
        return bool(self.notes()) or not all(each.is_released for each in self.sections())


def read_component(project: Path) -> Component:
    described: dict[str, Any] = tomllib.loads(project.read_text("utf-8"))
    table, module = described["project"], described["tool"]["flit"]["module"]["name"]
    source = project.parent.joinpath("src", *module.split("."), "__init__.py")
    version = re.search(r'^__version__ = "(.+)"$', source.read_text("utf-8"), re.MULTILINE)
    if version is None:
        sys.exit(f"{source} has no line `__version__ = ...`, which {project} leaves to it")
    needs = table.get("dependencies", []), table["optional-dependencies"]["tests"]
    name = canonicalize_name(table["name"])
    return Component(project.parent, name, Version(version[1]), source, *map(requirements, needs))


def requirements(texts: Iterable[str]) -> tuple[Requirement, ...]:
    parsed = tuple(map(Requirement, texts))
    for requirement in parsed:
        requirement.name = canonicalize_name(requirement.name)
    return parsed


def find_components(root: Path = ROOT) -> list[Component]:
    """Return the distributions in ``root/packages`` by name. Exits the program if none exist."""
    found = [read_component(path) for path in sorted(root.glob("packages/*/pyproject.toml"))]
    if not found:
        sys.exit(f"no packages/*/pyproject.toml in {root}")
    return found


def in_upload_order(components: Iterable[Component]) -> list[Component]:
    """Sort components so that each one is uploaded after our components that it depends on."""
    by_name = {component.name: component for component in components}
    graph = {
        name: [need.name for need in component.needs if need.name in by_name]
        for name, component in sorted(by_name.items())
    }
    return [by_name[name] for name in TopologicalSorter(graph).static_order()]
