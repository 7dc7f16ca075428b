"""A terminal in a clone of the repository, with an active, empty environment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import virtualenv
from instructions import ROOT, Command

__all__ = ["Terminal", "copy_checkout"]

#: Installed next to the tests; the pages expect them on the machine.
TOOLS = ("poetry", "pyright", "uv")
END_OF_OUTPUT = "\x1e"


def copy_checkout(target: Path) -> None:
    """Copy the files that a clone would contain, including uncommitted changes."""
    ignored = [line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()]
    names = [".git", *(name.rpartition("/")[2] for name in ignored)]
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*names))


@dataclass(frozen=True, slots=True)
class Terminal:
    """Runs commands in `clone`, with the Python, pip and packages of `environment`."""

    clone: Path
    environment: Path
    tools: Path

    @classmethod
    def open(cls, clone: Path, folder: Path) -> "Terminal":
        """Make an environment that contains only pip, in `folder`."""
        environment, tools = folder / "environment", folder / "tools"
        virtualenv.cli_run([str(environment), "--python", sys.executable])
        tools.mkdir()
        for tool in TOOLS:
            (tools / tool).symlink_to(Path(sys.executable).parent / tool)
        return cls(clone, environment, tools)

    def _surroundings(self) -> dict[str, str]:
        leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}
        system = [path for path in ("/usr/local/bin", "/usr/bin", "/bin") if Path(path).is_dir()]
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.environment / "bin"), str(self.tools), *system]),
            # As `activate` sets it; uv needs it.
            "VIRTUAL_ENV": str(self.environment),
            # Use the interpreter under test, not one that these tools would download.
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        }

    def run(self, *commands: str) -> list[str]:
        """Run commands in order until one fails, and return their outputs."""
        script = "\n".join(f"{command}\nprintf '{END_OF_OUTPUT}'" for command in commands)
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.clone,
            env=self._surroundings(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        *printed, rest = done.stdout.split(END_OF_OUTPUT)
        if done.returncode:
            failed = commands[len(printed)]
            raise AssertionError(f"`{failed}` failed:\n{rest}\n{done.stderr}")
        return [text.strip() for text in printed]

    def type(self, commands: Iterable[Command]) -> None:
        """Run the commands of a page, and compare their output with the page."""
        commands = list(commands)
        printed = self.run(*(command.typed for command in commands))
        for command, output in zip(commands, printed, strict=True):
            if command.shown:
                assert output == command.shown, command.typed
