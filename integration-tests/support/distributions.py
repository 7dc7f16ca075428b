"""The distributions of this repository: tests compare the built files with this table."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"


@dataclass(frozen=True, slots=True)
class Distribution:
    """One folder of ``packages/``, with its run-time requirements.

    Only those of ``EXTRAS`` include distributions that are not ours.
    """

    name: str
    module: str
    needs: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        return ROOT / "packages" / self.name

    @property
    def wheel(self) -> Path:
        return self._built("-*.whl")

    @property
    def sdist(self) -> Path:
        return self._built("-*.tar.gz")

    def _built(self, pattern: str) -> Path:
        [path] = DIST.glob(self.name.replace("-", "_") + pattern)
        return path


COMPONENTS = (
    Distribution("asgiref-sync", "asgiref.sync"),
    Distribution("asgiref-local", "asgiref.local"),
    Distribution("asgiref-compatibility", "asgiref.compatibility", frozenset({"asgiref-sync"})),
    Distribution("asgiref-typing", "asgiref.typing"),
    Distribution(
        "asgiref-server", "asgiref.server", frozenset({"asgiref-sync", "asgiref-compatibility"})
    ),
    Distribution("asgiref-wsgi", "asgiref.wsgi", frozenset({"asgiref-sync"})),
    Distribution("asgiref-testing", "asgiref.testing", frozenset({"asgiref-compatibility"})),
)
# Not installed by the meta-package, because it needs a third-party driver.
EXTRAS = (
    Distribution(
        "asgiref-postgres",
        "asgiref.postgres",
        frozenset({"asgiref-sync", "asgiref-compatibility", "asgiref-server", "asyncpg"}),
    ),
)
META = Distribution("asgiref", "asgiref", frozenset(component.name for component in COMPONENTS))
ALL = (*COMPONENTS, META)

# Every module of asgiref 3.13 that users can import.
MODULES = (
    *(component.module for component in COMPONENTS),
    "asgiref",
    "asgiref.timeout",
    "asgiref.current_thread_executor",
)
