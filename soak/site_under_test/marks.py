"""Marks identify the current request on any thread, and the request that caused a log record."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

from asgiref.local import Local

#: The mark of the request, or "" outside a request.
MARK: ContextVar[str] = ContextVar("mark", default="")
#: The same, by the other mechanism that carries values across the bridge.
LOCAL = Local()


class OnPurpose(Exception):
    """A handler raises this when the load generator asks for it."""

    def __init__(self, mark: str) -> None:
        super().__init__(f"on purpose: {mark}")
        self.mark = mark


class MixedUp(Exception):
    """Code saw the mark of a request other than its own."""


def check_mark(expected: str) -> str:
    """Return the mark if the context variable and the `Local` both have it.

    Raises:
        MixedUp: if either has a different mark.
    """
    seen = MARK.get(), getattr(LOCAL, "mark", None)
    if seen != (expected, expected):
        raise MixedUp(f"{expected!r} is served where the marks are {seen!r}")
    return expected


@dataclass(frozen=True, slots=True)
class LogLine:
    """A log record as stored in the file, one JSON object per line."""

    logger: str
    level: str
    message: str
    exception: str
    mark: str
    traceback: str


class LogFile(logging.Handler):
    """Writes each record as a line of JSON, with the mark that caused it."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = LogLine(
            record.name,
            record.levelname,
            record.getMessage().strip(),
            type(error).__name__ if error else "",
            getattr(error, "mark", "") or MARK.get(),
            self.format(record) if error else "",
        )
        self._file.write(dumps(asdict(line)) + "\n")


def log_to(path: Path) -> None:
    """Send every report of a problem that Python makes, by any means, to the file."""
    logging.basicConfig(level=logging.WARNING, handlers=[LogFile(path)])
    logging.captureWarnings(True)
    for category in (ResourceWarning, RuntimeWarning):
        warnings.simplefilter("always", category)
    hooks = logging.getLogger("soak.hooks")

    def unraisable(args: Any) -> None:
        hooks.error(
            "unraisable, in %r", args.object, exc_info=(type(args.exc_value), args.exc_value, None)
        )

    def thread_died(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        hooks.error("a thread died: %s", args.thread, exc_info=error)

    sys.unraisablehook = unraisable
    threading.excepthook = thread_died
