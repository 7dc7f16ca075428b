"""The virtual environment of a suite, and the asgiref that is installed in it.

A switch replaces only asgiref and leaves every other package as installed, so the two runs differ
in nothing else. After each switch, the environment itself reports what is installed. Our packages
come only from ``dist/``, because an index may have other projects with our names.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tools.install_dist import DIST, PACKAGES, ROOT, refuse_stale_wheel

from .projects import SuiteError

REFERENCE = "3.13.0"
ADAPTER = Path(__file__).parent / "inside" / "dependents_adapter.py"

_ASK = """
import asgiref.sync, json, sys, sysconfig
from importlib.metadata import version
print(json.dumps([version(sys.argv[1]), asgiref.sync.__file__, sysconfig.get_path("purelib")]))
"""


class Side(Enum):
    THEIRS = f"asgiref {REFERENCE}"
    OURS = "ours"


def surroundings() -> dict[str, str]:
    """Return the environment variables without those that expose this process's packages."""
    leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_", "PIP_COMPILE", "DJANGO_")
    return {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}


@dataclass(slots=True)
class Environment:
    """A virtual environment with the running Python's version, and the side installed in it."""

    path: Path
    side: Side = Side.THEIRS

    @classmethod
    def create(cls, path: Path, *requirements: str) -> "Environment":
        """Create one with asgiref 3.13.0, the requirements, and the replacement of adapters."""
        made = cls(path)
        made._run(sys.executable, "-m", "venv", str(path))
        made.pip("install", f"asgiref=={REFERENCE}", *requirements)
        shutil.copy(ADAPTER, made.ask("asgiref")[2])
        return made

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def pip(self, *arguments: str) -> str:
        return self._run(str(self.python), "-m", "pip", "-qq", *arguments)

    def switch_to(self, side: Side) -> None:
        """Install this side's asgiref, and remove every package of the other side."""
        if side is self.side:
            return
        self.pip("uninstall", "--yes", *sorted(PACKAGES))
        if side is Side.OURS:
            self.pip("install", "--no-index", "--find-links", str(DIST), "asgiref")
        else:
            self.pip("install", "--no-deps", f"asgiref=={REFERENCE}")
        self.side = side
        self._verify(version_of_ours() if side is Side.OURS else REFERENCE)

    def _verify(self, expected: str) -> None:
        """Require that asgiref is the expected one, and satisfies the installed projects.

        Other broken requirements are not our concern.
        """
        version, file, packages = self.ask("asgiref")
        if version != expected or not Path(file).is_relative_to(packages):
            raise SuiteError(f"asgiref {version} of {file} is installed instead of {expected}")
        check = [str(self.python), "-m", "pip", "check"]
        said = subprocess.run(check, capture_output=True, text=True, env=surroundings()).stdout
        complaints = [line for line in said.splitlines() if "asgiref" in line]
        if complaints:
            raise SuiteError("\n".join(complaints))

    def ask(self, project: str) -> list[str]:
        """Return a project's version, the file of asgiref.sync, and the folder of packages."""
        told: list[str] = json.loads(self._run(str(self.python), "-I", "-c", _ASK, project))
        return told

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=surroundings())
        if done.returncode:
            raise SuiteError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout


def version_of_ours() -> str:
    """Return the version of the wheel in ``dist/``, which must not be older than the sources."""
    for name in sorted(PACKAGES):
        refuse_stale_wheel(ROOT / "packages" / name)
    [wheel] = DIST.glob("asgiref-*.whl")
    return wheel.name.split("-")[1]
