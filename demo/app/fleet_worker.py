"""A worker process of the demo: ``python -m app.fleet_worker NAME DATA LEASE``.

``python -m asgiref.redis worker`` would do; this makes the game with its folder, and ends with its
parent. The URL comes in the environment, ``ASGIREF_REDIS_URL``, since every user of a machine sees
command lines.

Rules: the parent holds the other end of standard input and never writes to it. When it ends,
however that happened, this process does too, at once: what was in hand is redelivered to somebody.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from asgiref.redis import RedisServerError, RedisWorker

from .fleet_facts import CONNECTION, GROUP
from .kept_game import KeptGuessingGame
from .storage import Storage
from .trace import Trace

PREFETCH = 64
"""Few, so that the page shows how many messages nobody has read yet."""


class DemoWorker(RedisWorker):
    """A worker whose loop has a name on the page."""

    def __init__(self, trace: Trace, name: str, data: Path, lease: float) -> None:
        game = KeptGuessingGame(Storage(data), trace)
        url = os.environ["ASGIREF_REDIS_URL"]
        super().__init__(
            game,
            url,
            group=GROUP,
            connection=CONNECTION,
            name=name,
            lease=lease,
            prefetch=PREFETCH,
            shutdown_timeout=3.0,
        )
        self._trace = trace

    async def handle(self) -> None:
        self._trace.name_loop(f"{self.name}'s loop")
        await super().handle()


def main(name: str, data: str, lease: str) -> int:
    """Work until SIGTERM or the parent's end; return the exit code."""
    logging.basicConfig(level=logging.WARNING, format=f"{name}: %(message)s")
    threading.current_thread().name = f"{name}, pid {os.getpid()}"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        DemoWorker(Trace(), name, Path(data), float(lease)).run()
    except RedisServerError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin: its lock, held here, would upset the interpreter's own end
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
