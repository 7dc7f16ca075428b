"""The distributions of this repository, as their ``pyproject.toml`` files describe them.

Every folder of ``packages/`` with a ``pyproject.toml`` is a distribution. There is no separate list
to keep up to date, so a new distribution is never missed. Needs ``packaging``.
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

__all__ = ["ROOT", "Component", "find_components", "in_upload_order"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Component:
    """A folder of ``packages/``, which contains `version` of the distribution `name`."""

    folder: Path
    name: str
    version: Version
    #: Its run-time dependencies.
    needs: tuple[Requirement, ...]
    #: The additional dependencies of its tests.
    test_tools: tuple[Requirement, ...]
    #: Its build dependencies.
    build_tools: tuple[Requirement, ...]

    @property
    def changelog(self) -> Path:
        return self.folder / "CHANGELOG.md"

    @property
    def tag(self) -> str:
        """The git tag of the commit that was released as this version."""
        return f"{self.name}-{self.version}"

    @property
    def version_file(self) -> Path:
        """The file in which a release sets the new version."""
        project = self.folder / "pyproject.toml"
        dynamic = read_project(project)["project"].get("dynamic", [])
        return module_file(project) if "version" in dynamic else project


def read_project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def module_file(project: Path) -> Path:
    """Return the ``__init__.py`` where flit finds a version that pyproject.toml omits."""
    module: str = read_project(project)["tool"]["flit"]["module"]["name"]
    return project.parent.joinpath("src", *module.split("."), "__init__.py")


def version_of(project: Path) -> Version:
    declared: str | None = read_project(project)["project"].get("version")
    if declared is None:
        source = module_file(project)
        found = re.search(r'^__version__ = "(.+)"$', source.read_text("utf-8"), re.MULTILINE)
        if found is None:
            sys.exit(f"{source} has no line `__version__ = ...`, which {project} leaves to it")
        declared = found[1]
    return Version(declared)


def requirements(texts: Iterable[str]) -> tuple[Requirement, ...]:
    parsed = tuple(map(Requirement, texts))
    for requirement in parsed:
        requirement.name = canonicalize_name(requirement.name)
    return parsed


def read_component(project: Path) -> Component:
    described = read_project(project)
    table = described["project"]
    return Component(
        project.parent,
        canonicalize_name(table["name"]),
        version_of(project),
        requirements(table.get("dependencies", [])),
        requirements(table.get("optional-dependencies", {}).get("tests", [])),
        requirements(described["build-system"]["requires"]),
    )


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
