"""The private names of CPython's asyncio that the bridge uses, and what it does without them.

`_knows` says whether a loop can be used this way: asyncio's own selector loop on epoll can. Any
other loop (uvloop, a subclass, other platforms) gets the fallback on public API. To force that, set
the environment variable ``ASGIREF_SYNC_PUBLIC_ASYNCIO``.

What the private names buy: results wake a loop by an eventfd and step the waiting task in the same
turn (a call takes 20 µs instead of 30), coroutines start a turn earlier, and a used loop is
recognised as being as good as new (a top-level call takes a fifth of the time).
"""

import asyncio
import operator
import os
import select
import selectors
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from typing import Any, Protocol

__all__ = [
    "Arrival",
    "Completions",
    "LoopBaseline",
    "completions_of",
    "create_task",
    "custom_default_executor",
    "is_loop_running_here",
    "loop_policy",
    "new_event_loop",
    "run_loop",
]

_PUBLIC_ONLY = bool(os.environ.get("ASGIREF_SYNC_PUBLIC_ASYNCIO"))


def _knows(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is asyncio's own selector loop on epoll, made as we expect."""
    if _PUBLIC_ONLY or sys.platform != "linux" or type(loop) is not asyncio.SelectorEventLoop:
        return False
    internals: Any = loop
    try:
        return (
            hasattr(os, "eventfd")
            and isinstance(internals._ready, deque)
            and isinstance(internals._scheduled, list)
            and isinstance(internals._selector._selector, select.epoll)
            and hasattr(internals._selector, "_fd_to_key")
        )
    except AttributeError:
        return False


# Completions: results on their way to a loop, and coroutines to start there.


class Arrival(Protocol):
    """Something to deliver to a loop: `arrive` is called on the loop's thread, usually once."""

    def arrive(self) -> None: ...


class Completions(Protocol):
    """Brings arrivals to `loop`."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def deliver(self, arrival: Arrival) -> bool:
        """Have `arrival.arrive` called on the loop's thread; false if the loop is closed.

        Any thread may call this.
        """
        ...

    def wake(self, waiter: "asyncio.Future[None]") -> None:
        """Resume the task that awaits `waiter`, a future of `loop` that is not done."""


class _PublicCompletions:
    """Brings arrivals to a loop by public API: one `call_soon_threadsafe` for each."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop

    def deliver(self, arrival: Arrival) -> bool:
        try:
            self.loop.call_soon_threadsafe(arrival.arrive)
        except RuntimeError:
            return False
        return True

    def wake(self, waiter: "asyncio.Future[None]") -> None:
        waiter.set_result(None)


class _CompletionQueue(asyncio.Handle):
    """Brings arrivals to asyncio's own loop: one wake-up for all that arrive together.

    The loop's reader owns the queue, and so does each call in flight; the last of them closes the
    descriptor. So no thread can write to a descriptor that is closed, or is another file's by now.
    The descriptor is watched edge-triggered: each write is an event, and reading is not needed.

    The queue is its own entry in the loop's ready queue. That entry enters no context: arrivals
    bring their own, and a loop that is run inside one of its own callbacks (as nest_asyncio does)
    drains the queue inside a drain.
    """

    __slots__ = ("_arrivals", "_descriptor", "_is_woken", "_lock", "_ready", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor = -1
        super().__init__(completions_of, (), loop, Context())
        self.loop: asyncio.AbstractEventLoop = loop
        internals: Any = loop
        self._ready: deque[asyncio.Handle] = internals._ready
        self._arrivals: deque[Arrival] = deque()
        # Reentrant: a signal handler may set a `ThreadEvent` while its thread is in here.
        self._lock = threading.RLock()
        self._is_woken = False
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # The loop keeps a copy of the current context with its reader: not that of the caller.
        Context().run(loop.add_reader, self._descriptor, _look_again, self)
        internals._selector._selector.modify(self._descriptor, select.EPOLLIN | select.EPOLLET)

    # At interpreter exit the names of this module may be gone: hence the default argument.
    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self._descriptor >= 0:
            close(self._descriptor)

    def __repr__(self) -> str:
        return "<completions of asgiref.sync>"

    def deliver(self, arrival: Arrival) -> bool:
        if self.loop.is_closed():
            return False
        try:
            with self._lock:
                self._arrivals.append(arrival)
                first, self._is_woken = not self._is_woken, True
            if first:
                self._wake()
        except BaseException:
            # A signal handler raised. Others rely on the wake-up of this thread; two do no harm.
            self._wake()
            raise
        return True

    def _wake(self) -> None:
        self._ready.append(self)
        os.eventfd_write(self._descriptor, 1)

    def _run(self) -> None:
        """Hand out the arrivals; on the loop's thread, which calls this from its ready queue."""
        try:
            self._drain()
        except BaseException:
            # The arrivals that are left must get their turn all the same.
            self._ready.append(self)
            raise

    def drain_leftovers(self) -> None:
        """Hand out the arrivals that the loop's call of `_run` has not, if any."""
        if self._arrivals:
            self._run()

    def _drain(self) -> None:
        with self._lock:
            # Cleared before the first arrival is taken: a later one wakes the loop again.
            self._is_woken = False
            number = len(self._arrivals)
        if number > 1:
            # One arrival may run the loop inside this call, which must drain the others.
            self._ready.append(self)
        while number and self._arrivals:
            number -= 1
            arrival: Arrival | None = None
            try:
                arrival = self._arrivals.popleft()
                arrival.arrive()
            except BaseException as error:
                # A task raised KeyboardInterrupt or SystemExit through the loop, or a signal
                # handler raised anywhere in here. Arriving twice does no harm.
                if arrival is not None:
                    arrival.arrive()
                if not isinstance(error, Exception):
                    raise
                message = "asgiref.sync could not resume a task"
                self.loop.call_exception_handler({"message": message, "exception": error})

    def wake(self, waiter: "asyncio.Future[None]") -> None:
        _step_in_place(waiter)


def _look_again(queue: _CompletionQueue) -> None:
    """Drain what an interrupt has left: the loop is awake, and has run the queue's entry before."""
    queue.drain_leftovers()


# Read and written by one atomic operation of its dict each, and never iterated over: no lock. The
# queue refers to its loop, so the entry must not keep the queue.
_QUEUES = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_CompletionQueue]]()


def completions_of(loop: asyncio.AbstractEventLoop) -> Completions:
    """Return what brings arrivals to `loop`. On the loop's thread, while the loop runs."""
    reference = _QUEUES.get(loop)
    queue = None if reference is None else reference()
    if queue is not None:
        return queue
    if not _knows(loop):
        return _PublicCompletions(loop)
    try:
        queue = _CompletionQueue(loop)
    except OSError:  # no file descriptor is left
        return _PublicCompletions(loop)
    _QUEUES[loop] = weakref.ref(queue)
    return queue


def _step_in_place(future: "asyncio.Future[None]") -> None:
    """Set the result of `future` and step the task that awaits it. Not from inside a task.

    The future would schedule the step instead, and the loop takes another turn for it: 5 µs more
    for each call.
    """
    callbacks: Any = getattr(future, "_callbacks", None)
    if not callbacks or len(callbacks) > 1 or future.get_loop().get_debug():
        # In debug mode asyncio reports which task's steps are slow, if it makes the step.
        future.set_result(None)
        return
    [(step, context)] = callbacks
    is_stepped = False
    try:
        future.remove_done_callback(step)
        future.set_result(None)
        # In one line: a signal handler can raise between two.
        _ = (is_stepped := True) and context.run(step, future)
    except BaseException:
        if not is_stepped:
            future.get_loop().call_soon(step, future, context=context)
        raise
    finally:
        # A task that fails keeps this frame with its traceback, and `step` keeps the task.
        del step, context, callbacks, future


# Tasks


def create_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
) -> "asyncio.Task[None]":
    """Make a task of `loop`, which runs in this thread, and start it at once where possible.

    Tracers wrap ``loop.create_task``, and subclasses override it, so it is used wherever it is not
    asyncio's own.
    """
    if loop.get_task_factory() is not None:
        # A factory need not accept a context.
        return context.run(loop.create_task, coroutine)
    if _PUBLIC_ONLY or sys.version_info < (3, 12) or type(loop) is not asyncio.SelectorEventLoop:
        return loop.create_task(coroutine, context=context)
    if "create_task" in loop.__dict__:
        return loop.create_task(coroutine, context=context)
    if sys.version_info >= (3, 14):
        return loop.create_task(coroutine, context=context, eager_start=True)
    if not _is_original(type(loop).create_task):
        return loop.create_task(coroutine, context=context)
    return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)


def _is_original(create_task: object) -> bool:
    """Whether `create_task` is asyncio's own. A wrapper may look the same by its attributes."""
    return (
        type(create_task) is types.FunctionType
        and create_task.__code__.co_filename == asyncio.base_events.__file__
    )


def custom_default_executor(loop: asyncio.AbstractEventLoop) -> Any:
    """Return the executor that the application set with `loop.set_default_executor`, if any.

    The executor that asyncio makes for itself at the first `asyncio.to_thread` does not count; the
    name of its threads gives it away. Other loops do not show their executor.
    """
    executor = getattr(loop, "_default_executor", None)
    if executor is None or getattr(executor, "_thread_name_prefix", None) == "asyncio":
        return None
    return executor


# Running loops


def is_loop_running_here() -> bool:
    """Whether an event loop runs in this very thread.

    With gevent and eventlet a "thread" is a greenlet, but asyncio's mark of the running loop
    belongs to the operating system's thread, so that the loops of other greenlets show, too.
    """
    loop = asyncio._get_running_loop()
    if loop is None or not _has_green_threads():
        return loop is not None
    return getattr(loop, "_thread_id", None) in (None, threading.get_ident())


def _has_green_threads() -> bool:
    return getattr(threading.get_ident, "__module__", "_thread") != "_thread"


def run_loop(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any] | None" = None) -> None:
    """Run `loop` until it is stopped, or until `future` is done, whose exception is raised."""
    outer = asyncio._get_running_loop()
    if outer is not None:
        asyncio._set_running_loop(None)  # that of another greenlet, see `is_loop_running_here`
    try:
        if future is None:
            loop.run_forever()
        else:
            loop.run_until_complete(future)
    finally:
        if outer is not None:
            asyncio._set_running_loop(outer)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop as the application's policy says."""
    # In an empty context: a loop keeps the one that it was made in, with the caller's values.
    loop = Context().run(asyncio.new_event_loop)
    if _has_green_threads() and type(loop) is asyncio.SelectorEventLoop:
        loop.close()
        loop = asyncio.SelectorEventLoop(_GreenSelector())
    return loop


class _GreenSelector(selectors.DefaultSelector):
    """Hides the running loop while it waits, for then other greenlets run in this thread."""

    def select(self, timeout: float | None = None) -> Any:
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return super().select(timeout)
        finally:
            asyncio._set_running_loop(loop)


def loop_policy() -> object:
    """Return what makes new loops; another object once the application has installed another."""
    if sys.version_info >= (3, 14):
        get_policy = getattr(asyncio.events, "_get_event_loop_policy", None)
        return None if get_policy is None else get_policy()
    return asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]


# Loops as good as new

# Attributes that change while a loop runs without being a trace of anything.
_VOLATILE = frozenset(
    {"_clock_resolution", "_current_handle", "_stopping", "_thread_id", "_timer_cancelled_count"}
)


class LoopBaseline:
    """How a loop looked before its first use, to tell later whether it is as good as new.

    A trace of use is a task that is not done, a timer, a callback that waits for its turn, a
    registered descriptor, a transport, an asynchronous generator, a default executor, or any
    attribute that was set on the loop. `matches` is called on the loop's thread, between its runs.
    """

    __slots__ = ("_attributes", "_get_values", "_loop", "_readers", "_values")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Any = loop if _knows(loop) else None
        if self._loop is not None:
            run_loop(loop, loop.create_task(_make_completions(loop)))
            attributes = self._loop.__dict__
            self._attributes = len(attributes)
            # Taken and compared by functions written in C, because this is done after every call.
            self._get_values: Callable[[Any], tuple[object, ...]] = operator.itemgetter(
                *sorted(attributes.keys() - _VOLATILE)
            )
            self._values = self._get_values(attributes)
            internals: Any = loop
            self._readers = len(internals._selector._fd_to_key)

    @property
    def is_known(self) -> bool:
        """Whether anything can be said about this loop."""
        return self._loop is not None

    def matches(self) -> bool:
        loop = self._loop
        return (
            loop is not None
            and not loop.is_closed()
            and not loop._scheduled
            and not loop._ready
            and len(loop._selector._fd_to_key) == self._readers
            and not loop._transports.data
            and not loop._asyncgens.data
            and self._has_its_attributes()
            and not _has_tasks(loop)
        )

    def suspend(self) -> bool:
        """Have the loop refuse everything like a closed one; false if something came before that.

        A thread that kept the loop would wait in vain for what it schedules between two runs.
        """
        self._loop._closed = True
        if self._loop._ready:
            self.resume()
            return False
        return True

    def resume(self) -> None:
        """Undo `suspend`."""
        self._loop._closed = False

    def has_callbacks(self) -> bool:
        """Whether callbacks wait for their turn, which may still clean up after themselves."""
        return bool(self._loop._ready)

    def _has_its_attributes(self) -> bool:
        attributes = self._loop.__dict__
        if len(attributes) != self._attributes:
            return False
        try:
            # Compares by identity first: an equal value will do as well.
            return bool(self._get_values(attributes) == self._values)
        except KeyError:
            return False


async def _make_completions(loop: asyncio.AbstractEventLoop) -> None:
    completions_of(loop)


def _has_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop`, which does not run, has tasks that are not done.

    `asyncio.all_tasks` looks at every task of the process (until 3.14) and takes 5 µs for none. The
    length of asyncio's own collections shows at once that there is none in the whole process.
    """
    if _TASKS and not any(_TASKS):
        return False
    return bool(asyncio.all_tasks(loop))


def _collections_of_tasks() -> "list[Collection[object]]":
    """Return asyncio's own collections of the tasks that are not done, if they are as expected."""
    if sys.version_info >= (3, 14):
        return []
    names = ["_scheduled_tasks"] if sys.version_info >= (3, 12) else ["_all_tasks"]
    # The set inside a WeakSet, whose own len() is written in Python.
    found: list[Any] = [getattr(getattr(asyncio.tasks, name, None), "data", None) for name in names]
    if sys.version_info >= (3, 12):
        found.append(getattr(asyncio.tasks, "_eager_tasks", None))
    return [] if None in found else found


_TASKS = _collections_of_tasks()
