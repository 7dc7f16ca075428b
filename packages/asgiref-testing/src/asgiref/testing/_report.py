"""Describes an application for error messages: its name, its position, how it ended."""

import asyncio
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

_ASYNCIO = Path(asyncio.__file__).parent
_QUEUE_GET = asyncio.Queue[object].get.__code__


def name_of(application: object) -> str:
    """Return the application's dotted name, or its repr."""
    try:
        name = getattr(application, "__qualname__", None)
        module = getattr(application, "__module__", None)
    except Exception:
        return safe_repr(application)
    if isinstance(name, str) and isinstance(module, str):
        return f"{module}.{name}"
    return safe_repr(application)


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, or a description of an object whose ``repr`` raises."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} at {id(value):#x}, whose repr() raises>"


def is_mapping(value: object) -> bool:
    """Return whether ``value`` is a mapping. Callers cannot rely on its annotation."""
    return isinstance(value, Mapping)


def type_of(message: object) -> str:
    """Return the type of a message, or its repr."""
    kind = cast(Mapping[str, object], message).get("type") if is_mapping(message) else None
    return kind if isinstance(kind, str) else safe_repr(message)


def doing(task: asyncio.Task[Any]) -> str:
    """Describe what ``task`` is doing, as the end of a sentence about the application.

    The position is the innermost one outside asyncio, because a reader can change that line.
    """
    frames = list(_suspended_at(task.get_coro()))
    if not frames:
        return "it had not started to run" if not task.done() else how_it_ended(task)
    place = next((f for f in reversed(frames) if not _belongs_to_asyncio(f.f_code)), frames[-1])
    file = Path(place.f_code.co_filename).name
    verb = "it waited for input" if frames[-1].f_code is _QUEUE_GET else "it was waiting"
    return f"{verb} at {file}:{place.f_lineno} in {place.f_code.co_qualname}"


def _suspended_at(awaitable: object) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine, outermost first; none if it is not suspended."""
    while inspect.iscoroutine(awaitable):
        suspended = inspect.getcoroutinestate(awaitable) == inspect.CORO_SUSPENDED
        frame: FrameType | None = awaitable.cr_frame
        if suspended and frame is not None:
            yield frame
        awaitable = awaitable.cr_await


def _belongs_to_asyncio(code: CodeType) -> bool:
    return Path(code.co_filename).parent == _ASYNCIO


def how_it_ended(task: asyncio.Task[Any]) -> str:
    """Describe how the done ``task`` ended, as the end of a sentence about the application."""
    if task.cancelled():
        return "it was cancelled"
    failure = task.exception()
    if failure is None:
        return "it returned"
    try:
        return f"it raised {safe_repr(failure)}"
    finally:
        del failure
