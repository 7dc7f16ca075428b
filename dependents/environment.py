"""The virtual environment of a suite, and which asgiref is in it.

Ours is put in place of theirs, and theirs back, while everything else stays as it was installed: so
the two runs differ in nothing else. What is there is asked of the environment after every switch,
never assumed. Ours comes from ``dist/`` alone; an index may know other projects by our names.
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
    """This process's environment without what points Python at this process's own packages."""
    leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_", "PIP_COMPILE", "DJANGO_")
    return {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of the running Python's version."""

    path: Path

    @classmethod
    def create(cls, path: Path, *requirements: str) -> "Environment":
        """Make one with asgiref 3.13.0, the requirements, and what records outcomes."""
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
        """Have this side's asgiref installed, and nothing of the other's."""
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
        """Ours must satisfy what the installed projects ask of asgiref; the rest is theirs."""
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
    """The version of the wheel in ``dist/``, which must hold what the sources say now."""
    for name in sorted(PACKAGES):
        refuse_stale_wheel(ROOT / "packages" / name)
    [wheel] = DIST.glob("asgiref-*.whl")
    return wheel.name.split("-")[1]
