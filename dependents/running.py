"""Run the tests of a suite once and say what became of each, and how long it took.

A run has a time limit as a whole. What it started is ended with it: the command leads a process
group of its own, so a server that a test left behind is not left running. What it printed is kept
in a file, and its end is shown where the suite did not come to its own. No bytecode of the tests
is kept: the first of two runs would otherwise compile them for the second, whose time is
compared.
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
NORMAL_ENDS = {0, 1}  # all passed; some failed. Anything else is no verdict on tests.
LINES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Run:
    recorded: Recorded
    seconds: float


def run(
    suite: Suite, source: Path, environment: Environment, report: Path, tests: Sequence[str] = ()
) -> Run:
    """Run all tests, or the modules of the given ones; ``report`` names the files to write."""
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
    """Run it to its end, or to the time limit; whether it ended by itself."""
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
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
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
