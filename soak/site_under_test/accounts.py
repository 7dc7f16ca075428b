"""Accounts of this process: the mark of each request, counts of calls, the log, and resources.

The counts of resources need Linux and glibc.
"""

import asyncio
import gc
import json
import logging
import os
import sys
import threading
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

import psutil

from asgiref.local import Local

#: The mark of the request, or "" outside a request.
MARK: ContextVar[str] = ContextVar("mark", default="")
#: The same, by the other mechanism that carries values across the bridge.
LOCAL = Local()
FOLDER = Path(os.environ["SOAK_FOLDER"])
BLOCK = bytes(range(256)) * 256  # 64 kB

# Counts of the calls served so far. Only the event loop's thread changes them.
STARTED: Counter[str] = Counter()
ENDED: Counter[str] = Counter()
MESSAGES: Counter[str] = Counter()


class OnPurpose(Exception):
    """A handler raises this when the load asks for it. Its text is the mark of the request."""


def check_mark(expected: str) -> str:
    """Return the mark; require that the context variable and the `Local` both have it."""
    seen = MARK.get(), getattr(LOCAL, "mark", None)
    if seen != (expected, expected):
        raise RuntimeError(f"{expected!r} is served where the marks are {seen!r}")
    return expected


class LogFile(logging.Handler):
    """Writes each record as a line of JSON: its `Problem`, and its text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._file = (FOLDER / "log.jsonl").open("a", buffering=1, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        mark = str(error) if isinstance(error, OnPurpose) else MARK.get()
        problem = (mark, record.name, type(error).__name__ if error else "")
        self._file.write(json.dumps([problem, self.format(record)]) + "\n")


def snapshot() -> dict[str, dict[str, int]]:
    """Collect garbage, return free memory to the system, and return a `Snapshot`'s fields."""
    for _ in range(3):  # finalizers create more garbage
        gc.collect()
    psutil.heap_trim()
    process, heap, blocks = psutil.Process(), psutil.heap_info(), sys.getallocatedblocks()
    objects = gc.get_objects()
    types = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, objects))
    # By type: ``isinstance`` would evaluate the class of lazy objects.
    tasks = [each for each in objects if issubclass(type(each), asyncio.Task)]
    loops = [each for each in objects if issubclass(type(each), asyncio.AbstractEventLoop)]
    counts = {
        "threads": process.num_threads(),
        "descriptors": process.num_fds(),
        "children": len(process.children()),
        "tasks": sum(not task.done() for task in tasks),
        "loops": sum(not loop.is_closed() for loop in loops),
        "objects": len(objects),
        "blocks": blocks,
        "heap_kb": (heap.heap_used + heap.mmap_used) // 1024,
        "rss_kb": process.memory_info().rss // 1024,
    }
    names = Counter(thread.name for thread in threading.enumerate())
    accounts = {"started": STARTED, "ended": ENDED, "messages": MESSAGES}
    return {"counts": counts, "thread_names": names, "types": types, **accounts}
