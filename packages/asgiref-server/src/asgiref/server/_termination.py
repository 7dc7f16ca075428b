"""SIGTERM as a request to end cleanly, where nobody else handles it.

``asyncio.run`` already turns SIGINT into the cancellation of its main task. For SIGTERM nothing is
done by default but to kill the process, so only that default is replaced, only while the server
runs, and only on the main thread, where Python allows it.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def on_sigterm(callback: Callable[[], object]) -> Generator[None, None, None]:
    """Call ``callback`` on the running loop when SIGTERM comes during the block."""
    loop = asyncio.get_running_loop()
    unclaimed = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if unclaimed:
        try:
            loop.add_signal_handler(signal.SIGTERM, callback)
        except (NotImplementedError, RuntimeError):  # Windows, or a loop without signals
            unclaimed = False
    try:
        yield
    finally:
        if unclaimed:
            loop.remove_signal_handler(signal.SIGTERM)
