"""Programs in separate processes, with a time limit that prints each thread's stack."""

import os
import subprocess
import sys
import textwrap

_SUPPORT = os.path.dirname(__file__)

_PRELUDE = """
import faulthandler as _faulthandler
_faulthandler.dump_traceback_later({seconds}, exit=True)
import asyncio, os, signal, sys, threading, time
sys.path.append({support!r})
import loops
from asgiref.sync import *
# A shell ignores SIGINT in its background commands, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def run_program(script, *options, seconds=15, prelude=_PRELUDE, environment=None):
    """Run `script` and return its output; a program that hangs prints its stacks and fails."""
    source = prelude.format(seconds=seconds, support=_SUPPORT) + textwrap.dedent(script)
    process = subprocess.Popen(
        [sys.executable, "-u", *options, "-c", source],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds + 5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, errors = process.communicate()
        raise AssertionError(f"the program never ended\n{output}\n{errors}") from None
    return subprocess.CompletedProcess(script, process.returncode, output, errors)


def check_program(script, *options, output, status=0, **settings):
    """Assert that `script` prints `output` (except for whitespace) and exits with `status`."""
    result = run_program(script, *options, **settings)
    assert (result.stdout.split(), result.returncode) == (output.split(), status), result.stderr
    return result
