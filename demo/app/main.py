"""The main program of the demo; ``run.py`` calls ``main`` inside its environment.

Exit codes: 0 after Ctrl-C (the documented way to end) or a check without complaint; 1 if the demo
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from . import check, check_fleet
from .demo import Demo, Settings, Wake, why_no_fleet
from .options import DEFAULT_PORT, parse
from .pieces import PieceFailed
from .ports import is_free

CHECK_WORKERS = 3


def main(arguments: Sequence[str], state_folder: Path) -> int:
    """Run the demo and return the exit code; ``state_folder`` keeps the guestbook between runs."""
    options = parse(arguments)
    settings = Settings(
        data=options.data or state_folder / "data",
        port=0,
        irc=options.irc,
        bot_nick=options.bot_nick,
        channel=options.channel,
        workers=options.workers,
        database=options.database,
    )
    try:
        if options.check:
            return _check(replace(settings, port=options.port or 0))
        return _serve(replace(settings, port=_choose_port(options.port)))
    except (PieceFailed, OSError) as error:
        print(f"The demo cannot run: {error}", file=sys.stderr)
        return 1


def _choose_port(wanted: int | None) -> int:
    """Choose the port. A requested port must be free; the default may be replaced."""
    if wanted is not None:
        return wanted
    if not is_free(DEFAULT_PORT):
        print(f"Port {DEFAULT_PORT} is in use; taking a free one (--port chooses another).")
        return 0
    return DEFAULT_PORT


def _serve(settings: Settings) -> int:
    demo = Demo(settings)
    with _signals_wake(demo):
        with demo.running() as addresses:
            chat = f"{addresses.irc_host}:{addresses.irc_port}"
            print(f"The demo runs on {addresses.url} (IRC: {chat}, channel {settings.channel})")
            print("Ctrl-C ends it.", flush=True)
            reason = _wait(demo)
            print("Ending ...", flush=True)
        # If a piece ended by itself with an exception, that has been raised by now.
        if reason is Wake.PIECE_ENDED:
            print("The demo ended because a part of it did.", file=sys.stderr)
            return 1
    print("Ended.")
    return 0


def _wait(demo: Demo) -> Wake:
    while True:
        # Windows delivers Ctrl-C only between calls, so no call may block indefinitely.
        with contextlib.suppress(queue.Empty):
            return demo.wakes.get(timeout=None if os.name == "posix" else 0.5)


def _check(settings: Settings) -> int:
    with tempfile.TemporaryDirectory(prefix="asgiref-demo-") as folder:
        say = functools.partial(print, flush=True)
        here = replace(settings, data=Path(folder))
        failed = check.run(Demo(replace(here, workers=0)), say)
        if not settings.workers and (reason := why_no_fleet(settings.database)):
            say(f"The bot with workers was not visited: {reason}.")
            return failed
        fleet = replace(here, workers=settings.workers or CHECK_WORKERS)
        say(f"The same bot, with {fleet.workers} workers on PostgreSQL:")
        return check.run(Demo(fleet), say, check_fleet.STEPS) or failed


@contextlib.contextmanager
def _signals_wake(demo: Demo) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a wake-up, a second one into an immediate end."""
    seen: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if seen:
            os._exit(130)
        seen.append(number)
        demo.wakes.put(Wake.SIGNAL)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before: list[Callable[..., object] | int | None] = [signal.signal(n, handler) for n in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
