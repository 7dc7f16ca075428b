"""What a suite is: a project, what its tests need, and how they are started.

A runner knows the command that starts all tests of a suite, and the one that starts the modules of
some of them. Test ids are those of pytest or unittest; each runner reads only its own.
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
    """How the tests of an unpacked source are started."""

    @property
    def needs(self) -> str: ...

    @property
    def folder(self) -> str: ...

    def arguments(self, source: Path, tests: Sequence[str] = ()) -> list[str]:
        """The interpreter's arguments; for all tests, or for the modules of the given ones."""
        ...


@dataclass(frozen=True, slots=True)
class Pytest:
    """``python -m pytest`` in a folder of the source. Each test has a time limit: a hang fails."""

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
    """``django test``, for a project that brings settings of its own."""

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

    Two processes, as on its developers' machines; ``tblib`` lets them hand over tracebacks.
    """

    folder: str = "tests"
    needs: str = "tblib"

    def arguments(self, source: Path, tests: Sequence[str] = ()) -> list[str]:
        return [
            *("runtests.py", "--settings=dependents_sqlite", "--parallel=2", "--noinput"),
            *(_modules(tests) or labels_that_touch_asgiref(source / "tests")),
        ]


def _modules(tests: Sequence[str]) -> list[str]:
    """The modules of unittest's ids; none where one tells no module, which stands for all tests.

    An id is ``module.Class.method``, or ``setUpClass (module.Class)``. Modules are lower case, and
    classes are not.
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

    ``requirement`` is fetched as source and installed in the same version, with ``extras``.
    ``needs`` is installed beside it, requirements between blanks; so is ``alone``, but without what
    that asks for. ``beside`` runs while the tests do: it is given the source, which it may edit,
    and a folder of its own. ``source_may_lack_tests`` is for a project whose source archive carries
    none: that is told, where others fail. ``archive`` is the address of another archive that has
    them, with ``{version}`` in it. In ``environ`` ``{source}`` is the unpacked source.
    ``adapter`` is what `WsgiToAsgi` takes the place of on our side (see `dependents_adapter`), and
    ``expected`` gives the reason for each test that fails then and should.
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
