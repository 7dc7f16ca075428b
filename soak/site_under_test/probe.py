"""Counts the resources of this process. Needs Linux, and glibc for the size of malloc's heap.

Descriptors, children and RSS are the kernel's figures. Tasks and loops of all threads are found
among the objects that the garbage collector knows.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from records import Snapshot

from .counts import COUNTS


class _MallInfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2`` (malloc/malloc.h)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_libc = ctypes.CDLL(None)
_HAS_GLIBC = hasattr(_libc, "mallinfo2")
if _HAS_GLIBC:
    _libc.mallinfo2.restype = _MallInfo2


def probe() -> Snapshot:
    """Collect garbage, return free memory to the system, and count."""
    for _ in range(3):  # finalizers create more garbage
        gc.collect()
    heap_kb = 0
    if _HAS_GLIBC:
        _libc.malloc_trim(0)
        info = _libc.mallinfo2()
        heap_kb = (info.uordblks + info.hblkhd) // 1024
    blocks = sys.getallocatedblocks()
    counted = Counter(map(type, gc.get_objects()))
    types = Counter[str]()
    for each, count in counted.items():
        types[f"{each.__module__}.{each.__qualname__}"] += count
    return Snapshot(
        threads=_status("Threads"),
        descriptors=len(os.listdir("/proc/self/fd")) - 1,  # without the descriptor of this listing
        children=_children(),
        tasks=sum(not task.done() for task in _all(asyncio.Task)),
        loops=sum(not loop.is_closed() for loop in _all(asyncio.AbstractEventLoop)),
        objects=sum(counted.values()),
        blocks=blocks,
        heap_kb=heap_kb,
        rss_kb=_status("VmRSS"),
        types=dict(types),
        thread_names=sorted(thread.name for thread in threading.enumerate()),
        served=COUNTS.served,
        heard=COUNTS.heard,
        said=COUNTS.said,
    )


def _all(kind: type) -> list[Any]:
    """Return the instances by type: ``isinstance`` would evaluate the class of lazy objects."""
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise LookupError(f"/proc/self/status has no {key}")


def _children() -> int:
    """Return the number of child processes, including zombies."""
    lists = Path(f"/proc/self/task/{threading.main_thread().native_id}/..").glob("*/children")
    return sum(len(each.read_text(encoding="ascii").split()) for each in lists)
