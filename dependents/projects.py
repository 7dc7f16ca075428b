"""Read ``projects.toml``: how to install each downstream project and how to run its tests."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: The reports have the fields that the ids of tests need. A project's own options would measure
#: coverage. A test that hangs fails.
PYTEST = (
    *("-m", "pytest", "--rootdir=.", "-p", "no:cacheprovider", "--timeout=120"),
    *("-o", "addopts=", "-o", "junit_family=xunit1", "-o", "junit_suite_name=pytest"),
    "--continue-on-collection-errors",
)


class SuiteError(Exception):
    """A suite could not be set up or run to its end; the text is the message for the user."""


@dataclass(frozen=True, slots=True)
class Project:
    """One entry of ``projects.toml``; the head of that file explains the fields."""

    name: str
    project: str
    release: str = ""
    install: Sequence[str] = ()
    archive: str = ""
    command: Sequence[str] = ()
    options: Sequence[str] = ()
    folder: str = "."
    targets: Sequence[str] = ("tests",)
    targets_with: str = ""
    before: str = ""
    adapter: Sequence[str] = ()
    known: dict[str, str] = field(default_factory=dict[str, str])

    def requirements(self, version: str = "") -> list[str]:
        """Return what to install for this version, by default for the newest suitable one."""
        runner = ("unittest-xml-reporting",) if self.command else ("pytest", "pytest-timeout")
        release = f"=={version}" if version else self.release
        return [self.project + release, *runner, *self.install]

    def arguments(self, source: Path, report: Path, tests: Iterable[str] = ()) -> list[str]:
        """Return Python's arguments for all tests, or for the modules of the given tests."""
        if self.command:
            modules = dict.fromkeys(test.rsplit(".", 2)[0] for test in tests)
            return [*self.command, *(modules or self._labels(source / self.folder))]
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        adapter = ("-p", "dependents_adapter") if self.adapter else ()
        return [*PYTEST, f"--junitxml={report}", *adapter, *self.options, *(files or self.targets)]

    def _labels(self, folder: Path) -> Sequence[str]:
        """Return the targets that exist, and each folder whose code matches ``targets_with``."""
        if not self.targets_with:
            return self.targets
        modules = [(each.relative_to(folder).parts[0], each) for each in folder.rglob("*/*.py")]
        matches = re.compile(self.targets_with).search
        return sorted({n for n, m in modules if n in self.targets or matches(m.read_text("utf-8"))})


def read_projects(path: Path) -> dict[str, Project]:
    """Return the projects by name, in the order of the file."""
    entries = tomllib.loads(path.read_text("utf-8"))
    for entry in entries.values():
        if "like" in entry:
            entry |= entries[entry.pop("like")] | entry
    return {name: Project(name, **entry) for name, entry in entries.items()}
