"""The application of a worker process, which is ``python -m asgiref.postgres worker``.

The folder of the data comes in the environment, as ``ASGIREF_DEMO_DATA``; so does the database's
URL, since every user of a machine sees command lines.

Rules: the parent holds the other end of standard input and never writes to it. When it ends,
however that happened, this process does too, at once: another worker gets what was in hand.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .kept_game import KeptGuessingGame
from .storage import Storage
from .trace import Trace


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin: its lock, held here, would upset the interpreter's own end
    os._exit(1)


threading.current_thread().name = f"worker, pid {os.getpid()}"
threading.Thread(target=_end_with_parent, daemon=True).start()
game = KeptGuessingGame(Storage(Path(os.environ["ASGIREF_DEMO_DATA"])), Trace())
