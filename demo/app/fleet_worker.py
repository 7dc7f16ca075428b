"""The application of a worker process, which is ``python -m asgiref.postgres worker``.

The environment variable ``ASGIREF_DEMO_DATA`` names the data folder. The URL of the database is
also in the environment, because every user of a machine can see command lines.

Rules: the parent holds the other end of standard input and never writes to it. When the parent
ends, for any reason, this process ends at once too, and another worker gets its unfinished
messages.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .kept_game import KeptGuessingGame
from .storage import Storage
from .trace import Trace


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin: its lock, held here, would break the interpreter's shutdown
    os._exit(1)


threading.current_thread().name = f"worker, pid {os.getpid()}"
threading.Thread(target=_end_with_parent, daemon=True).start()
game = KeptGuessingGame(Storage(Path(os.environ["ASGIREF_DEMO_DATA"])), Trace())
