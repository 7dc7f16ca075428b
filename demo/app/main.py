"""The main program of the demo; ``run.py`` calls ``main`` inside its environment.

Exit codes: 0 after Ctrl-C (the documented way to end) or a check that found no fault; 1 if the demo
could not run or the check found a fault; 2 for a wrong command line; 130 only for a second Ctrl-C,
which ends the program at once.
"""

import functools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import own_postgres  # from tools/

from . import check
from .demo import PieceFailed, running
from .options import HOST, Settings, parse

CHECK_WORKERS = 3
POLL_SECONDS = 0.1


def main(arguments: Sequence[str], state: Path) -> int:
    """Run the demo and return the exit code; the folder ``state`` outlives the run."""
    settings = parse(arguments, state)
    try:
        return _check(settings) if settings.check else _serve(settings)
    except (PieceFailed, own_postgres.NoServer, OSError) as error:
        print(f"The demo cannot run: {error}", file=sys.stderr)
        return 1


def _serve(settings: Settings) -> int:
    reasons = list[str]()  # to end

    def end(number: int, frame: object) -> None:
        if "signal" in reasons:
            os._exit(130)
        reasons.append("signal")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with running(settings, lambda: reasons.append("piece")) as port:
        print(f"The demo runs on http://{HOST}:{port}/\nCtrl-C ends it.", flush=True)
        # Poll: a signal handler that interrupts a wait for a lock may not take the lock itself.
        while not reasons:
            time.sleep(POLL_SECONDS)
        print("Ending ...", flush=True)
    # If a piece ended by itself with an exception, that has been raised by now.
    if reasons[0] == "piece":
        print("The demo ended because a part of it did.", file=sys.stderr)
        return 1
    print("Ended.")
    return 0


def _check(settings: Settings) -> int:
    say = functools.partial(print, flush=True)
    with tempfile.TemporaryDirectory(prefix="asgiref-demo-") as folder:
        settings = replace(settings, data=Path(folder), port=settings.port or 0)
        failed = check.run(replace(settings, workers=0), say)
        is_missing = settings.database is None and own_postgres.find_binaries() is None
        if is_missing and not settings.workers:
            say("There is no PostgreSQL on this machine, so the bot with workers was not visited.")
            return failed
        settings = replace(settings, workers=settings.workers or CHECK_WORKERS)
        say(f"The same bot, with {settings.workers} workers on PostgreSQL:")
        return check.run(settings, say, check.FLEET_STEPS) or failed
