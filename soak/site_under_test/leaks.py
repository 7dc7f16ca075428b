"""Faults on demand: each leaks one thing per request, to show that the verdict finds it."""

from __future__ import annotations

import asyncio
import os
import threading

_kept: list[object] = []
_never = threading.Event()


def _thread() -> None:
    threading.Thread(target=_never.wait, daemon=True).start()


def _descriptor() -> None:
    _kept.append(os.dup(0))


def _object() -> None:
    _kept.append([])


def _memory() -> None:
    _kept.append(bytearray(os.urandom(64 * 1024)))


def _task() -> None:
    _kept.append(asyncio.create_task(asyncio.sleep(1e6)))


def _loop() -> None:
    _kept.append(asyncio.new_event_loop())


def _child() -> None:
    """Leave a process that has ended, but that its parent never waits for."""
    if os.fork() == 0:
        os._exit(0)


LEAKS = {
    "threads": _thread,
    "descriptors": _descriptor,
    "objects": _object,
    "memory": _memory,
    "tasks": _task,
    "loops": _loop,
    "children": _child,
}
