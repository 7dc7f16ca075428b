"""The main program of the demo; ``run.py`` calls ``main`` inside its environment.

Exit codes: 0 after Ctrl-C (the documented way to end) or a check that found no fault; 1 if the demo
could not run or the check found a fault; 2 for a wrong command line; 130 only for a second Ctrl-C,
which ends the program at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import own_postgres  # from tools/

from . import check
from .demo import PieceFailed, Settings, running
from .options import DEFAULT_PORT, HOST, PortUnusable, bind, parse

CHECK_WORKERS = 3


def main(arguments: Sequence[str], state: Path) -> int:
    """Run the demo and return the exit code; the folder ``state`` outlives the run."""
    options = parse(arguments)
    data, reference = options.data or state / "data", state / "reference"
    settings = Settings(data, options.port or 0, reference, options.workers, options.database)
    try:
        if options.check:
            return _check(settings)
        return _serve(settings if options.port is not None else _with_default_port(settings))
    except (PieceFailed, OSError) as error:
        print(f"The demo cannot run: {error}", file=sys.stderr)
        return 1


def _with_default_port(settings: Settings) -> Settings:
    try:
        bind(DEFAULT_PORT).close()
    except PortUnusable:
        print(f"Port {DEFAULT_PORT} is in use; taking a free one (--port chooses another).")
        return settings
    return replace(settings, port=DEFAULT_PORT)


def _serve(settings: Settings) -> int:
    # In a signal handler that interrupts ``get``, only a SimpleQueue's ``put`` cannot deadlock.
    wakes: queue.SimpleQueue[str] = queue.SimpleQueue()
    _signals_wake(wakes)
    with running(settings, lambda: wakes.put("piece")) as port:
        print(f"The demo runs on http://{HOST}:{port}/\nCtrl-C ends it.", flush=True)
        reason = _next(wakes)
        print("Ending ...", flush=True)
    # If a piece ended by itself with an exception, that has been raised by now.
    if reason == "piece":
        print("The demo ended because a part of it did.", file=sys.stderr)
        return 1
    print("Ended.")
    return 0


def _next(wakes: queue.SimpleQueue[str]) -> str:
    while True:
        # Windows delivers Ctrl-C only between calls, so no call may block indefinitely.
        with contextlib.suppress(queue.Empty):
            return wakes.get(timeout=None if os.name == "posix" else 0.5)


def _signals_wake(wakes: queue.SimpleQueue[str]) -> None:
    """Turn the first SIGINT or SIGTERM into a wake-up, a second one into an immediate end."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        if seen:
            os._exit(130)
        seen.append(number)
        wakes.put("signal")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _check(settings: Settings) -> int:
    say = functools.partial(print, flush=True)
    with tempfile.TemporaryDirectory(prefix="asgiref-demo-") as folder:
        settings = replace(settings, data=Path(folder))
        failed = check.run(replace(settings, workers=0), say)
        is_missing = settings.database is None and own_postgres.find_binaries() is None
        if is_missing and not settings.workers:
            say("There is no PostgreSQL on this machine, so the bot with workers was not visited.")
            return failed
        settings = replace(settings, workers=settings.workers or CHECK_WORKERS)
        say(f"The same bot, with {settings.workers} workers on PostgreSQL:")
        return check.run(settings, say, check.FLEET_STEPS) or failed
