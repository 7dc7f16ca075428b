"""Run a program in a separate interpreter."""

import subprocess
import sys
from textwrap import dedent

__all__ = ["run_program"]


def run_program(source: str, *arguments: str) -> str:
    """Run `source` and return its output. Fail if it hangs, fails or prints a warning."""
    command = [sys.executable, "-W", "error", "-c", dedent(source), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout + run.stderr
    return run.stdout
