"""Read ``projects.toml``: how to install each downstream project and how to run its tests."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

DATA = Path(__file__).with_name("projects.toml")
SMOKE_TESTS = Path(__file__).with_name("smoke")
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
    install_alone: Sequence[str] = ()
    archive: str = ""
    command: Sequence[str] = ()
    options: Sequence[str] = ()
    folder: str = "."
    targets: Sequence[str] = ("tests",)
    targets_with: str = ""
    before: str = ""
    adapter: str = ""
    known: dict[str, str] = field(default_factory=dict[str, str])

    def with_smoke_test(self) -> "Project":
        """Return the project with our smoke test in place of its suite."""
        test = f"smoke_{self.name.replace('-', '_')}.py"
        options = ("-p", "no:django")  # pytest-django would forbid access to the database
        return replace(self, folder=".", before="", command=(), options=options, targets=(test,))

    @property
    def tools(self) -> Sequence[str]:
        """The requirements of the runner."""
        return ("unittest-xml-reporting",) if self.command else ("pytest", "pytest-timeout")

    def arguments(self, source: Path, report: Path, tests: Iterable[str] = ()) -> list[str]:
        """Return Python's arguments for all tests, or for the modules of the given tests."""
        if self.command:
            return [*self.command, *(self._modules(tests) or self._labels(source))]
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        adapter = ("-p", "dependents_adapter") if self.adapter else ()
        return [*PYTEST, f"--junitxml={report}", *adapter, *self.options, *(files or self.targets)]

    def _modules(self, tests: Iterable[str]) -> list[str]:
        """Return the modules of ``module.Class.method``, or none if unittest hides a module."""
        modules = dict.fromkeys(test.rsplit(".", 2)[0] for test in tests)
        return [] if any(name.startswith("unittest") for name in modules) else list(modules)

    def _labels(self, source: Path) -> list[str]:
        """Return the targets that exist, and each folder whose code matches ``targets_with``."""
        if not self.targets_with:
            return list(self.targets)
        search = re.compile(self.targets_with).search
        folders = (each for each in (source / self.folder).iterdir() if each.is_dir())
        return sorted(
            each.name
            for each in folders
            if (each.name in self.targets and any(each.glob("*.py")))
            or any(search(module.read_text("utf-8")) for module in each.rglob("*.py"))
        )


def read_projects(path: Path = DATA) -> dict[str, Project]:
    """Return the projects by name, in the order of the file."""
    entries = tomllib.loads(path.read_text("utf-8"))
    for entry in entries.values():
        if "like" in entry:
            entry |= entries[entry.pop("like")] | entry
    return {name: Project(name, **entry) for name, entry in entries.items()}
