"""Threads with their own event loops, started in order and stopped in the opposite order.

Rules: a piece is any object with a name, a ``run_piece`` that blocks its thread and calls ``ready``
once it works, and a ``stop`` that any thread may call. The main thread only starts the pieces,
waits and stops them, so a signal never interrupts it in the middle of other work. If a piece ends
without being asked to, the whole demo has failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class Piece(Protocol):
    """An object that runs on its own thread."""

    @property
    def name(self) -> str: ...

    def run_piece(self, ready: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...


class PieceFailed(Exception):
    """A piece could not start, ended by itself, or did not end when asked; says which and why."""


class PieceThread:
    """One piece on its thread, which calls ``on_end`` when the piece has ended."""

    def __init__(self, piece: Piece, on_end: Callable[[], None]) -> None:
        self._piece = piece
        self._on_end = on_end
        self._ready: Future[None] = Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=piece.name)

    def start(self) -> None:
        """Start, and return once the piece is ready. Raises ``PieceFailed`` if it ends instead."""
        self._thread.start()
        try:
            self._ready.result(START_SECONDS)
        except TimeoutError:
            self._piece.stop()
            self._thread.join(STOP_SECONDS)
            raise PieceFailed(f"{self._piece.name} did not start in time") from None

    def stop(self) -> None:
        """Stop, and return once the thread has ended. Raises ``PieceFailed``."""
        self._piece.stop()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise PieceFailed(f"{self._piece.name} did not end in time")
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise ``PieceFailed`` if the piece ended with an exception."""
        if self._failure is not None:
            raise PieceFailed(f"{self._piece.name} failed: {self._failure!r}") from self._failure

    def _run(self) -> None:
        try:
            self._piece.run_piece(self._became_ready)
        except BaseException as error:  # SystemExit too: uvicorn raises it when it cannot start
            self._failure = error
        finally:
            if not self._ready.done():
                reason = self._failure or "it ended at once"
                self._ready.set_exception(
                    PieceFailed(f"{self._piece.name} could not start: {reason}")
                )
            self._on_end()

    def _became_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
