"""Calls on executors that are not ours.

Applications pass executors, set one as their loop's default, give one to a context or put one in
the place of the shared thread. All that is asked of them is `submit`. A call does its own reporting
to the loop, so the future that `submit` returns is needed for two things only: to take a call out
of the executor's queue when its coroutine is cancelled, and to notice that the executor dropped it
(`shutdown(cancel_futures=True)`), since the call would then never report anything.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from ._calls import Call

__all__ = ["Submitter", "submit_to"]


class Submitter(Protocol):
    """What can run calls: any `concurrent.futures.Executor`, or an object with its `submit`."""

    def submit(self, fn: Callable[..., Any], /) -> "Future[Any]": ...


def submit_to(executor: Submitter, call: Call) -> None:
    """Have `executor` run `call`. What its `submit` raises goes to the caller."""
    future = executor.submit(call.run)
    call.withdraw = getattr(future, "cancel", None)
    watch = getattr(future, "add_done_callback", None)
    if watch is not None:
        watch(_Dropped(call))


class _Dropped:
    """Tells a call that it was dropped, and lets go of it: a future keeps its callbacks."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call: Call | None = call

    def __call__(self, future: "Future[Any]") -> None:
        call, self._call = self._call, None
        if call is not None and future.cancelled():
            call.fail(asyncio.CancelledError("the executor dropped the call"))
