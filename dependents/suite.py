"""The definition of a suite: a project, its test requirements, and the command for its tests.

A runner builds the command for all tests of a suite, or for the modules of some of them. Test ids
have the format of pytest or unittest; each runner reads only its own format.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from .django_labels import labels_that_touch_asgiref


class Runner(Protocol):
    """Builds the command that runs the tests of an unpacked source."""

    @property
    def needs(self) -> str: ...

    @property
    def folder(self) -> str: ...

    def arguments(self, source: Path, tests: Sequence[str] = ()) -> list[str]:
        """Return Python's arguments for all tests, or for the modules of the given tests."""
        ...


@dataclass(frozen=True, slots=True)
class Pytest:
    """``python -m pytest`` in a folder of the source. A time limit makes a hanging test fail."""

    targets: tuple[str, ...] = ("tests",)
    folder: str = "."
    options: tuple[str, ...] = ()
    needs: str = "pytest pytest-timeout"

    def arguments(self, source: Path, tests: Sequence[str] = ()) -> list[str]:
        files = dict.fromkeys(test.split("::")[0] for test in tests)
        return [
            *("-m", "pytest", "-p", "dependents_pytest", "-p", "no:cacheprovider"),
            *("--rootdir=.", "--timeout=120", *self.options),
            *(files or self.targets),
        ]


@dataclass(frozen=True, slots=True)
class DjangoTests:
    """``django test``, for a project with its own settings."""

    labels: tuple[str, ...] = ("tests",)
    folder: str = "."
    needs: str = ""

    def arguments(self, source: Path, tests: Sequence[str] = ()) -> list[str]:
        return [
            *("-m", "django", "test", "--noinput"),
            *("--testrunner", "dependents_django.RecordingRunner"),
            *(_modules(tests) or self.labels),
        ]


@dataclass(frozen=True, slots=True)
class DjangoItself:
    """Django's own ``runtests.py`` on SQLite, with the labels that touch asgiref.

    It uses two processes, as Django's developers do; ``tblib`` lets them pass tracebacks.
    """

    folder: str = "tests"
    needs: str = "tblib"

    def arguments(self, source: Path, tests: Sequence[str] = ()) -> list[str]:
        return [
            *("runtests.py", "--settings=dependents_sqlite", "--parallel=2", "--noinput"),
            *(_modules(tests) or labels_that_touch_asgiref(source / "tests")),
        ]


def _modules(tests: Sequence[str]) -> list[str]:
    """Return the modules of unittest's ids, or none, which means all, if an id has no module.

    An id is ``module.Class.method`` or ``setUpClass (module.Class)``. Module names are lower case;
    class names are not.
    """
    modules: dict[str, None] = {}
    for test in tests:
        named = re.fullmatch(r"\w+ \((.+)\)", test)
        parts = (named[1] if named else test).split(".")
        module = ".".join(takewhile(lambda part: part.islower(), parts))
        if not module or module.startswith("unittest."):
            return []
        modules[module] = None
    return list(modules)


Beside = Callable[[Path, Path], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Suite:
    """A dependent's test suite.

    The source of ``requirement`` is downloaded, and the same version is installed with ``extras``.
    ``needs`` lists additional requirements, separated by spaces; ``alone`` is a requirement that is
    installed without its dependencies. The context manager ``beside`` runs during the tests; it
    gets the source, which it may edit, and its own folder. With ``source_may_lack_tests``, a source
    archive without tests is reported and does not fail the run; ``archive`` is the URL, with
    ``{version}`` in it, of another archive that has the tests. ``{source}`` in ``environ`` is the
    unpacked source. On our side `WsgiToAsgi` replaces ``adapter`` (see `dependents_adapter`), and
    ``expected`` gives the reason for each test that then fails on purpose.
    """

    name: str
    requirement: str
    runner: Runner
    extras: str = ""
    needs: str = ""
    alone: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    beside: Beside | None = None
    source_may_lack_tests: bool = False
    archive: str = ""
    adapter: str = ""
    expected: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str:
        found = re.match(r"[A-Za-z0-9._-]+", self.requirement)
        assert found is not None
        return found[0]

    def has_tests(self, source: Path) -> bool:
        folder = source / self.runner.folder
        return any(folder.glob("**/test_*.py"))
