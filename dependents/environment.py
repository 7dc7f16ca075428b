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
from pathlib import Path

from tools.install_dist import DIST, PACKAGES, ROOT, refuse_stale_wheel

from .comparison import Side
from .errors import SuiteError

REFERENCE = "3.13.0"
INSIDE = Path(__file__).parent / "inside"

_ASK = """
import asgiref.sync, importlib.metadata, json, sysconfig
print(json.dumps({
    "version": importlib.metadata.version("asgiref"),
    "file": asgiref.sync.__file__,
    "packages": sysconfig.get_path("purelib"),
}))
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """The asgiref that the environment imports."""

    version: str
    file: Path
    packages: Path


def surroundings() -> dict[str, str]:
    """Return the environment variables without those that expose this process's packages."""
    leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_", "PIP_COMPILE", "DJANGO_")
    return {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with the running Python's version."""

    path: Path

    @classmethod
    def create(cls, path: Path, *requirements: str) -> "Environment":
        """Create one with asgiref 3.13.0, the requirements, and the recorders of outcomes."""
        made = cls(path)
        made._run(sys.executable, "-m", "venv", str(path))
        made.pip("install", f"asgiref=={REFERENCE}", *requirements)
        for module in INSIDE.glob("*.py"):
            shutil.copy(module, made.installed().packages)
        return made

    @property
    def python(self) -> Path:
        return self.path / ("Scripts" if os.name == "nt" else "bin") / "python"

    def pip(self, *arguments: str) -> str:
        return self._run(str(self.python), "-m", "pip", "-qq", *arguments)

    def installed(self) -> Installed:
        told = json.loads(self._run(str(self.python), "-I", "-c", _ASK))
        return Installed(told["version"], Path(told["file"]), Path(told["packages"]))

    def put(self, side: Side) -> Installed:
        """Install this side's asgiref, and remove every package of the other side."""
        self.pip("uninstall", "--yes", *sorted(PACKAGES))
        if side is Side.OURS:
            self.pip("install", "--no-index", "--find-links", str(DIST), "asgiref")
        else:
            self.pip("install", "--no-deps", f"asgiref=={REFERENCE}")
        found = self.installed()
        expected = version_of_ours() if side is Side.OURS else REFERENCE
        if found.version != expected or not found.file.is_relative_to(found.packages):
            raise SuiteError(f"asgiref {found.version} of {found.file} is in place of {expected}")
        self._refuse_complaints()
        return found

    def _refuse_complaints(self) -> None:
        """Require that ours satisfies the installed projects' requirements of asgiref.

        Other broken requirements are not our concern.
        """
        command = [str(self.python), "-m", "pip", "check"]
        said = subprocess.run(command, capture_output=True, text=True, env=surroundings()).stdout
        complaints = [line for line in said.splitlines() if "asgiref" in line]
        if complaints:
            raise SuiteError("\n".join(complaints))

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
