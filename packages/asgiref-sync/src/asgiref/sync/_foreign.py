"""Calls on executors that are not ours.

Applications pass executors, set one as their loop's default, give one to a context or put one in
the place of the shared thread. All that is asked of them is `submit`. Where the call itself runs,
it does its own reporting to the loop. The future that `submit` returns is needed to take a call out
of the executor's queue when its coroutine is cancelled, and for those calls that never run here:

* the executor dropped it (``shutdown(cancel_futures=True)``) or could not run it (a process died,
  something cannot be pickled);
* it went to another process or interpreter. A call has a loop and a context, neither of which can
  go there; so what is pickled is the function with its arguments, and its outcome comes back by the
  future. Context variables and hooks stay here.

Such a call is known by its state: it has not begun here when its future is done.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from ._calls import Call

__all__ = ["Submitter", "submit_to"]


class Submitter(Protocol):
    """What can run calls: any `concurrent.futures.Executor`, or an object with its `submit`."""

    def submit(self, fn: Callable[..., Any], /) -> "Future[Any]": ...


def submit_to(executor: Submitter, call: Call) -> None:
    """Have `executor` run `call`. What its `submit` raises goes to the caller."""
    future = executor.submit(_Portable(call))
    call.withdraw = getattr(future, "cancel", None)
    watch = getattr(future, "add_done_callback", None)
    if watch is not None:
        watch(_Watch(call))


class _Portable:
    """What is submitted: runs the call in this process, and in another one only its function."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self) -> None:
        self._call.run()

    def __reduce__(self) -> str | tuple[Any, ...]:
        call = self._call
        return partial(call.function, *call.args, **call.kwargs).__reduce__()


class _Watch:
    """Settles a call that did not run here, and lets go of it: a future keeps its callbacks."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call: Call | None = call

    def __call__(self, future: "Future[Any]") -> None:
        call, self._call = self._call, None
        if call is None or call.begun:
            return
        if future.cancelled():
            call.drop()
        elif (error := future.exception()) is not None:
            call.fail(error)
        else:
            call.succeed(future.result())
