"""One call of a synchronous function, from the coroutine that awaits it to a thread and back.

    QUEUED ──run()─────────────> RUNNING ───arrive()──> DONE
       ├──succeed(), fail()──> REPORTED ──arrive()────┘
       └──give_up()──────────> CANCELLED

The loop's thread makes the call, queues it somewhere, awaits it and takes the outcome. The thread
that takes it from the queue calls `run`, which is all that a worker knows of a call. (One that is
refused, or runs in another process, is reported on instead.) In between the call has one owner at a
time, so nothing is locked:

* `run` reads the state once. If the coroutine is cancelled in that very moment, the function runs
  as if it had begun a moment before the cancellation; its result finds nobody waiting.
* `value`, `error` are written by the thread before it delivers the call, read by the loop after.
* `below` holds the `async_to_sync` calls that the function waits in. Its thread replaces it as a
  whole; the loop looks at it, to cancel them.

`release` is called on the thread when the function has ended and before the loop learns of it: a
coroutine that goes on at once finds its worker free, and takes the same one again.
"""

import asyncio
import enum
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from ._awaited import Awaited
from ._contexts import ask_values
from ._handled import exc_info_of, run_handling
from ._inbox import Inbox
from ._markers import describe
from ._threads import THREAD

if TYPE_CHECKING:
    from ._coroutines import CoroutineCall
    from ._frames import CurrentThreadExecutor
    from ._parallel import ParallelCalls

__all__ = ["Call", "CallState"]

#: ``thread_handler`` of `SyncToAsync`, as integrations override it.
Handler = Callable[..., Any]


class CallState(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    REPORTED = "reported"
    DONE = "done"
    CANCELLED = "cancelled"


# Members of an enumeration are looked up through its class, on 3.11 by a slow path.
_QUEUED, _RUNNING, _REPORTED = CallState.QUEUED, CallState.RUNNING, CallState.REPORTED
_DONE, _CANCELLED = CallState.DONE, CallState.CANCELLED


class Call(Awaited):
    """A call of `function` for the coroutine that awaits it on `loop`."""

    __slots__ = (
        "args",
        "before",
        "below",
        "context",
        "error",
        "frame",
        "function",
        "handled",
        "handler",
        "inbox",
        "kwargs",
        "place",
        "release",
        "sender",
        "state",
        "value",
        "withdraw",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
        before: Context,
        handled: BaseException | None,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        sender: threading.Thread | None,
    ) -> None:
        super().__init__(loop)
        self.function: Callable[..., Any] = function
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.context: Context = context
        self.before: Context = before
        #: The exception that the caller is handling.
        self.handled: BaseException | None = handled
        self.inbox: Inbox = inbox
        #: The thread that the values in `context` leave, if they want to be asked.
        self.sender: threading.Thread | None = sender
        self.state: CallState = _QUEUED
        self.value: Any = None
        self.error: BaseException | None = None
        #: The `async_to_sync` calls that the function waits in, the innermost last.
        self.below: tuple[CoroutineCall, ...] = ()
        #: Set when an integration hooked the call.
        self.handler: Handler | None = None
        #: The frame whose thread was chosen, if it was one.
        self.frame: CurrentThreadExecutor | None = None
        self.release: Callable[[Any], object] | None = None
        #: Where threads are counted, if the call has one of a limited number.
        self.place: ParallelCalls | None = None
        #: Takes the call out of a foreign executor's queue.
        self.withdraw: Callable[[], object] | None = None

    def __repr__(self) -> str:
        # Tasks show it, as what they wait for.
        return f"<call of {describe(self.function)}, {self.state.value}>"

    # On the thread that was chosen.

    def run(self) -> None:
        """Run the function if the call is still wanted, and hand the outcome to the loop."""
        wanted = self.state is _QUEUED
        if wanted:
            self.state = _RUNNING
            thread = THREAD.record
            outer, thread.call = thread.call, self
            try:
                self.value = self._call_function()
            except BaseException as error:
                self.error = _transportable(error)
            finally:
                thread.call = outer
                del outer
        if self.release is not None:
            self.release(self)
        if wanted:
            self.inbox.deliver(self)

    def _call_function(self) -> Any:
        if self.handler is not None:
            child = partial(self.function, *self.args, **self.kwargs)
            exc_info = exc_info_of(self.handled)
            return self.handler(self.loop, exc_info, [], self._run_child, child)
        if self.handled is None and self.sender is None:
            return self.context.run(self.function, *self.args, **self.kwargs)
        child = partial(self.function, *self.args, **self.kwargs)
        if self.handled is None:
            return self._run_child(child)
        return run_handling(self.handled, partial(self._run_child, child))

    def _run_child(self, child: Callable[[], Any]) -> Any:
        if self.sender is not None:
            self.before = self.context.run(ask_values, self.sender)
        return self.context.run(child)

    def begin(self, coroutine: "CoroutineCall") -> None:
        """Have `coroutine`, for which the function waits, begin on the loop of this call."""
        coroutine.assign(self.loop)
        self.inbox.deliver(coroutine)

    # On the loop's thread.

    def arrive(self) -> None:
        """Let the coroutine that waits go on, if it still does."""
        self.state = _DONE
        # An executor's future leads to this call, by its callback.
        self.withdraw = None
        self.wake()

    def outcome(self) -> Any:
        """Return what the function returned, or raise what it raised. Once only."""
        __traceback_hide__ = True
        error, result = self.error, self.value
        # The traceback of an exception leads to frames that refer to this call.
        self.error = self.value = None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error

    def fail(self, error: BaseException) -> None:
        """Settle the call with `error`: it was refused, or failed elsewhere. Any thread."""
        self.state = _REPORTED
        self.error = _no_stop_iteration(error)
        self.inbox.deliver(self)

    def succeed(self, result: Any) -> None:
        """Settle the call, which ran elsewhere, with `result`. Any thread."""
        self.state = _REPORTED
        self.value = result
        self.inbox.deliver(self)

    def drop(self) -> None:
        """Settle the call, which is in no queue any more and will not run. Any thread."""
        self.fail(asyncio.CancelledError("the executor dropped the call"))

    @property
    def begun(self) -> bool:
        """Whether the call was begun in this process, or is not wanted any more."""
        return self.state is not _QUEUED

    def done(self) -> bool:
        return self.state is _DONE

    def give_up(self) -> bool:
        """The coroutine was cancelled; true if the function's end must be waited for.

        A call that is queued never starts. One that runs cannot be stopped, and is left alone,
        unless it waits in `async_to_sync`: what it waits for is cancelled, and the function gets to
        see that.
        """
        if self.state is _QUEUED:
            self.state = _CANCELLED
            withdraw, self.withdraw = self.withdraw, None
            if withdraw is not None:
                withdraw()
            return False
        below = self.below
        if self.state is not _RUNNING or not below:
            return False
        for coroutine in below:
            coroutine.cancel()
        return True


def _transportable(error: BaseException) -> BaseException:
    """Return `error` in a form that a coroutine can raise, without the bridge's own frame."""
    traceback = error.__traceback__
    if traceback is not None:
        error.__traceback__ = traceback.tb_next
    return _no_stop_iteration(error)


def _no_stop_iteration(error: BaseException) -> BaseException:
    """Return `error`, or what stands for it: raised in a coroutine it would read as its return."""
    if not isinstance(error, StopIteration):
        return error
    replacement = RuntimeError(f"a function called by sync_to_async raised {error!r}")
    replacement.__cause__ = error
    return replacement
