"""SIGINT and SIGTERM as requests to end cleanly, where nobody else handles them.

By default SIGTERM kills the process, and SIGINT raises KeyboardInterrupt in the middle of whatever
runs; with ``asyncio.run`` the first SIGINT cancels its main task, and the second one does the same.
Here each signal becomes a call on the event loop, between two steps of it. Only those defaults are
replaced, only while the server runs, and only on the main thread, where Python allows it; what
``asyncio.run`` has put there is replaced by `StatelessServer.run` alone, who called it.

A loop that is stuck in some function does not get to that call. So a SIGINT that finds the one
before still unheard raises KeyboardInterrupt after all.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """Turns signals into calls of ``callback`` on the loop that runs."""

    def __init__(self, callback: Callable[[signal.Signals], object]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._unheard = False

    def handler(self, number: int, frame: FrameType | None) -> None:
        """On the main thread, anywhere in what it does."""
        if self._unheard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._unheard = True
        self._loop.call_soon_threadsafe(self._hear, signal.Signals(number))

    def _hear(self, number: signal.Signals) -> None:
        self._unheard = False
        self._callback(number)


@contextmanager
def on_signals(
    callback: Callable[[signal.Signals], object], *, whoever_has_sigint: bool
) -> Generator[None, None, None]:
    """Call ``callback`` on the running loop for each such signal that comes during the block."""
    taken = _unclaimed(whoever_has_sigint)
    handler = Signals(callback).handler
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _unclaimed(whoever_has_sigint: bool) -> list[signal.Signals]:
    if threading.current_thread() is not threading.main_thread():
        return []
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    unclaimed = [number for number, does in defaults.items() if signal.getsignal(number) is does]
    if whoever_has_sigint and signal.SIGINT not in unclaimed:
        unclaimed.append(signal.SIGINT)
    return unclaimed


def sigint_is_unclaimed() -> bool:
    """Whether a SIGINT would raise KeyboardInterrupt here and now."""
    return signal.SIGINT in _unclaimed(whoever_has_sigint=False)
