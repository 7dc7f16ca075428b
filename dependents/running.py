"""Run the tests of a suite once; return each outcome and the duration.

The run as a whole has a time limit. The command leads a process group of its own, and the group
ends with the run, so a server that a test left behind does not survive. A file keeps the output,
and the error message quotes its end if the suite does not finish. Python stores no bytecode of the
tests: otherwise only the first run would compile them, and the two durations could not be compared.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .environment import Environment, surroundings
from .junit import Outcomes, read_report
from .projects import Project, SuiteError

WHOLE_RUN_SECONDS = 2400
NORMAL_ENDS = {0, 1}  # all passed; some failed. Other codes say nothing about the tests.
CHARACTERS_SHOWN = 4000


@dataclass(frozen=True, slots=True)
class Run:
    outcomes: Outcomes
    seconds: float


def run(
    project: Project, source: Path, environment: Environment, report: Path, tests: Iterable[str]
) -> Run:
    """Run all tests, or the modules of the given tests; ``report`` names the output files."""
    log, report = report.with_suffix(".log"), report.with_suffix(".xml")
    values = {
        "DEPENDENTS_ADAPTER": project.adapter,
        "DEPENDENTS_REPORT": str(report),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(environment.python), *project.arguments(source, report, tests)]
    if project.before:
        command = ["sh", "-ec", f'{project.before}\nexec "$@"', "sh", *command]
    started = time.monotonic()
    with log.open("wb") as output:
        end = _call(command, source / project.folder, surroundings() | values, output.fileno())
    seconds = time.monotonic() - started
    outcomes = read_report(report) if end in NORMAL_ENDS and report.exists() else {}
    if not outcomes:
        how = f"still ran after {WHOLE_RUN_SECONDS} s" if end is None else f"ended with {end}"
        last = log.read_text("utf-8", "replace")[-CHARACTERS_SHOWN:]
        raise SuiteError(f"the suite of {project.project} {how} and without results:\n{last}")
    return Run(outcomes, seconds)


def _call(command: list[str], folder: Path, values: dict[str, str], output: int) -> int | None:
    """Run the command to its end or the time limit; return its status, or None at the limit."""
    process = subprocess.Popen(
        command, cwd=folder, env=values, stdin=subprocess.DEVNULL,
        stdout=output, stderr=output, start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait(WHOLE_RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
