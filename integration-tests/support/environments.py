"""Fresh virtual environments for installation tests."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import virtualenv
from distributions import DIST

# Our distributions come only from dist/; they need nothing from an index.
FROM_DIST = ("--no-index", "--find-links", str(DIST))


def _surroundings() -> dict[str, str]:
    """Return this process's environment without variables that expose its own packages."""
    leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_")
    return {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of the running Python's version.

    Failures show the command's output.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> "Environment":
        virtualenv.cli_run([str(path), "--python", sys.executable])
        return cls(path)

    @property
    def interpreter(self) -> Path:
        return self.path / ("Scripts" if os.name == "nt" else "bin") / "python"

    def attempt(
        self, *arguments: str | Path, cwd: Path | None = None, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python with only its own packages, and return the result."""
        return subprocess.run(
            [self.interpreter, *arguments],
            cwd=cwd or self.path,
            env=_surroundings(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run this environment's Python, check that it succeeds, and return its output."""
        done = self.attempt(*arguments, cwd=cwd)
        command = " ".join(map(str, arguments))
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pip(self, *arguments: str | Path) -> str:
        return self.run("-m", "pip", "-q", *arguments)

    def install_ours(self, *requirements: str) -> None:
        self.pip("install", *FROM_DIST, *requirements)

    def evaluate(self, source: str) -> Any:
        """Run a program in isolated mode, and return its output, parsed as JSON."""
        return json.loads(self.run("-I", "-W", "error", "-c", source))

    def versions(self) -> dict[str, str]:
        """Return the versions of the installed distributions, by normalized name."""
        listed = json.loads(self.run("-m", "pip", "list", "--format=json"))
        return {each["name"].lower().replace("_", "-"): each["version"] for each in listed}

    def module_files(self, modules: Sequence[str]) -> dict[str, str]:
        """Import the modules in one process, and return the file of each."""
        files: dict[str, str] = self.evaluate(
            "import importlib, json\n"
            f"modules = {{name: importlib.import_module(name) for name in {list(modules)!r}}}\n"
            "print(json.dumps({name: module.__file__ for name, module in modules.items()}))"
        )
        return files
