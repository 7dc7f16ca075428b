"""The virtual environment of a suite, the asgiref that is installed in it, and a run of the tests.

Changing sides replaces only asgiref and leaves every other package as installed, so the two runs
differ in nothing else. Our packages come only from ``dist/``, because an index may have other
projects with our names. After each run, the environment itself reports what is installed.

A run has a time limit. Its command leads a process group, and the group ends with the run, so a
server that a test left behind does not survive.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tools.install_dist import DIST, PACKAGES, ROOT, distribution_name, refuse_stale_wheel

from .junit import Outcomes, read_report
from .projects import Project, SuiteError

REFERENCE = "3.13.0"
PLUGIN = Path(__file__).with_name("inside")
WHOLE_RUN_SECONDS = 2400


class Side(Enum):
    THEIRS = f"asgiref {REFERENCE}"
    OURS = "ours"


def built_versions() -> dict[str, str]:
    """Return the versions of the wheels in ``dist/``, which must not be older than the sources."""
    for name in PACKAGES:
        refuse_stale_wheel(ROOT / "packages" / name)
    wheels = [path.name.split("-") for path in DIST.glob("*.whl")]
    return {name.replace("_", "-"): version for name, version, *_ in wheels}


def surroundings() -> dict[str, str]:
    """Return the environment variables without those that expose this process's packages."""
    leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_", "PIP_COMPILE", "DJANGO_")
    return {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}


@dataclass(slots=True)
class Environment:
    """A virtual environment with the running Python's version, and the side installed in it."""

    path: Path
    requirements: Sequence[str]
    side: Side = Side.THEIRS

    def __post_init__(self) -> None:
        """Create it with the requirements and asgiref 3.13.0."""
        venv.create(self.path, symlinks=True, with_pip=True)
        self.pip("install", f"asgiref=={REFERENCE}", *self.requirements)

    def pip(self, *arguments: str) -> str:
        """Run pip; return its output."""
        command = [str(self.path / "bin" / "python"), "-m", "pip", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=surroundings())
        if done.returncode:
            raise SuiteError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def installed(self) -> dict[str, str]:
        """Return the versions of the installed packages."""
        listed = json.loads(self.pip("list", "--format=json"))
        return {distribution_name(each["name"]): each["version"] for each in listed}

    def use(self, side: Side) -> None:
        """Install this side's asgiref in place of the other one."""
        if side is self.side:
            return
        self.pip("uninstall", "--yes", *sorted(PACKAGES))
        if side is Side.OURS:  # with the requirements, so that pip refuses if they exclude ours
            wanted = (f"asgiref=={built_versions()['asgiref']}", *self.requirements)
            self.pip("install", "--no-index", "--find-links", str(DIST), *wanted)
        else:
            self.pip("install", "--no-deps", f"asgiref=={REFERENCE}")
        self.side = side

    def verify(self) -> None:
        """Require this side's packages, and none of the other side's; call this after a run."""
        expected = built_versions() if self.side is Side.OURS else {"asgiref": REFERENCE}
        found = {name: each for name, each in self.installed().items() if name in PACKAGES}
        if "asgiref" not in found or not found.items() <= expected.items():
            raise SuiteError(f"{self.side.value} ran with {found} instead of {expected}")

    def run(
        self, project: Project, source: Path, report: Path, tests: Iterable[str]
    ) -> tuple[Outcomes, float]:
        """Run all tests, or the modules of the given tests; return each outcome, and the seconds.

        The log is written next to the report; the error message quotes its end if the suite does
        not finish. Python stores no bytecode: otherwise only the first run would compile the tests,
        and the two durations could not be compared.
        """
        values = {"DEPENDENTS_REPORT": str(report), "PYTHONDONTWRITEBYTECODE": "1"}
        if project.adapter:
            values |= {"DEPENDENTS_ADAPTER": " ".join(project.adapter), "PYTHONPATH": str(PLUGIN)}
        command = ["sh", "-ec", f'{project.before}\nexec "$@"', "sh", str(self.path / "bin/python")]
        command += project.arguments(source, report, tests)
        log, started = report.with_suffix(".log"), time.monotonic()
        end = _call(command, source / project.folder, surroundings() | values, log)
        seconds = time.monotonic() - started
        # All tests passed, or some failed. Other codes say nothing about the tests.
        outcomes = read_report(report) if end in {0, 1} and report.exists() else {}
        if not outcomes:
            how = f"still ran after {WHOLE_RUN_SECONDS} s" if end is None else f"ended with {end}"
            last = log.read_text("utf-8", "replace")[-4000:]
            raise SuiteError(f"its suite {how} and without results:\n{last}")
        return outcomes, seconds


def _call(command: list[str], folder: Path, values: dict[str, str], log: Path) -> int | None:
    """Run the command to its end or the time limit; return its status, or None at the limit."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=folder, env=values, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        ) as process,
    ):  # fmt: skip
        try:
            return process.wait(WHOLE_RUN_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):  # the whole group has ended
                os.killpg(process.pid, signal.SIGKILL)
