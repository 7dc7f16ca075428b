"""The progress of a run: one line that changes on a terminal, or one line per step in a log."""

import sys
import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """A context manager, which clears the line on the terminal at the end."""

    def __init__(self, label: str, steps: int, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._label = label
        self._steps = steps
        self._step = 0
        self._begin = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._rewrites:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def step(self) -> None:
        """Start the next step."""
        self._step += 1
        if self._rewrites:
            self.detail("")
        else:
            print(self._line(), file=self._stream, flush=True)

    def detail(self, text: str) -> None:
        """Describe the current part of this step, on a terminal only."""
        if self._rewrites:
            line = f"{self._line()}: {text}" if text else self._line()
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()

    def _line(self) -> str:
        return f"{self._label}: round {self._step} of {self._steps}{self._left()}"

    def _left(self) -> str:
        done = self._step - 1
        if done < 1:
            return ""
        seconds = (time.monotonic() - self._begin) / done * (self._steps - done)
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"
