"""SIGINT and SIGTERM as requests to end cleanly, where nobody else handles them.

``asyncio.run`` already turns SIGINT into the cancellation of its main task; a loop that is run
otherwise would break off with KeyboardInterrupt in the middle of whatever runs. For SIGTERM nothing
is done by default but to kill the process. So only these defaults are replaced, only while the
server runs, and only on the main thread, where Python allows it.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

_DEFAULTS = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))


@contextmanager
def on_signals(callback: Callable[[signal.Signals], object]) -> Generator[None, None, None]:
    """Call ``callback`` on the running loop for each such signal that comes during the block."""
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number, default in _DEFAULTS if signal.getsignal(number) is default]
    try:
        for number in taken:
            loop.add_signal_handler(number, callback, number)
    except (NotImplementedError, RuntimeError):  # Windows, or a loop without signals
        taken = []
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
