"""Run the tests of a suite once; return each outcome and the duration.

The run as a whole has a time limit. The command leads a process group of its own, and the group
ends with the run, so a server that a test left behind does not survive. A file keeps the output,
and its end is shown if the suite does not finish. Python stores no bytecode of the tests: the first
run would otherwise compile them for the second one, and the two durations are compared.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import Environment, surroundings
from .errors import SuiteError
from .outcomes import Recorded, read
from .suite import Suite

WHOLE_RUN_SECONDS = 2400
NORMAL_ENDS = {0, 1}  # all passed; some failed. Other codes say nothing about the tests.
LINES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Run:
    recorded: Recorded
    seconds: float


def run(
    suite: Suite, source: Path, environment: Environment, report: Path, tests: Sequence[str] = ()
) -> Run:
    """Run all tests, or the modules of the given tests; ``report`` names the output files."""
    outcomes, log = report.with_suffix(".jsonl"), report.with_suffix(".log")
    values = {
        **surroundings(),
        **{name: value.format(source=source) for name, value in suite.environ.items()},
        "DEPENDENTS_OUTCOMES": str(outcomes),
        "DEPENDENTS_ADAPTER": suite.adapter,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(environment.python), *suite.runner.arguments(source, tests)]
    started = time.monotonic()
    with log.open("wb") as output:
        ended = _call(command, source / suite.runner.folder, values, output.fileno())
    seconds = time.monotonic() - started
    recorded = read(outcomes)
    if not ended or recorded.exit_code not in NORMAL_ENDS or not recorded.outcomes:
        raise SuiteError(_told(suite, ended, recorded, log))
    return Run(recorded, seconds)


def _call(command: Sequence[str], folder: Path, values: dict[str, str], output: int) -> bool:
    """Run the command to its end or the time limit; return whether it ended by itself."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=values,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        process.wait(WHOLE_RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    else:
        return True
    finally:
        _end_group(process)


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(leader.pid, signal.SIGKILL)
    else:
        leader.kill()
    leader.wait()


def _told(suite: Suite, ended: bool, recorded: Recorded, log: Path) -> str:
    last = log.read_text("utf-8", "replace").splitlines()[-LINES_SHOWN:]
    how = "did not come to its end" if ended else f"still ran after {WHOLE_RUN_SECONDS} s"
    count = len(recorded.outcomes)
    return "\n".join(
        [f"the suite of {suite.project} {how}, {count} tests in; last it said:", *last]
    )
