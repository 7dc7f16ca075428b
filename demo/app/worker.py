"""The application of a worker process, which is ``python -m asgiref.postgres worker``.

Invariant: when the demo ends, for any reason, this process ends at once too. The demo holds the
other end of standard input and never writes to it.
"""

import os
import threading
from pathlib import Path

from .game import GuessingGame


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin: its lock, held here, would break the interpreter's shutdown
    os._exit(1)


threading.current_thread().name = f"pid {os.getpid()}"
threading.Thread(target=_end_with_parent, daemon=True).start()
game = GuessingGame(Path(os.environ["ASGIREF_DEMO_GAMES"]))
