"""The private names of CPython's asyncio that the bridge uses, and what it does without them.

`_is_known` says whether a loop can be used this way: asyncio's own selector loop on epoll can. Any
other loop (uvloop, a subclass, other platforms) gets the fallback on public API. To force that, set
the environment variable ``ASGIREF_SYNC_PUBLIC_ASYNCIO``.

What the private names buy: an eventfd wakes the loop, and the waiting task is stepped in the same
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
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PUBLIC_ONLY = bool(os.environ.get("ASGIREF_SYNC_PUBLIC_ASYNCIO"))
_HAS_EPOLL = not _PUBLIC_ONLY and sys.platform == "linux" and hasattr(os, "eventfd")


def _is_known(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is asyncio's own selector loop on epoll, made as we expect."""
    if not _HAS_EPOLL or type(loop) is not asyncio.SelectorEventLoop:
        return False
    internals: Any = loop
    try:
        return (
            isinstance(internals._ready, deque)
            and isinstance(internals._scheduled, list)
            and isinstance(internals._selector._selector, select.epoll)
            and hasattr(internals._selector, "_fd_to_key")
        )
    except AttributeError:
        return False


# Completion queues: results on their way to a loop, and coroutines to start there.


class PublicCompletionQueue:
    """Calls functions on a loop's thread by public API: one ``call_soon_threadsafe`` for each."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop

    def put(self, callback: Callable[[], object]) -> bool:
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True


class EpollCompletionQueue(asyncio.Handle):
    """Calls functions on the thread of asyncio's own loop: one wake-up for all that come together.

    A thread that wakes the loop puts the queue into the loop's ready queue, as a handle, and writes
    to an eventfd, whose event does the same: an interrupt of the loop can lose one of the two. The
    descriptor is watched edge-triggered: each write is one event, and reading is not needed.

    The loop's selector owns the queue, and so does each call in flight; the last of them closes the
    descriptor. So no thread can write to one that is closed, or is another file's by now.

    Unlike asyncio's handles it enters no context: a loop that is run inside one of its own
    callbacks (as nest_asyncio does) runs the queue inside the queue.
    """

    __slots__ = ("_callbacks", "_descriptor", "_is_woken", "_lock", "_pid", "_ready", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor = -1
        super().__init__(completion_queue_of, (), loop, Context())
        self.loop: asyncio.AbstractEventLoop = loop
        internals: Any = loop
        self._ready: deque[asyncio.Handle] = internals._ready
        self._callbacks: deque[Callable[[], object]] = deque()
        # Reentrant: a signal handler may set a `ThreadEvent` while its thread is in here.
        self._lock = threading.RLock()
        self._is_woken = False
        self._pid = os.getpid()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        internals._selector.register(self, selectors.EVENT_READ, (self, None))
        internals._selector._selector.modify(self._descriptor, select.EPOLLIN | select.EPOLLET)

    # At interpreter exit the names of this module may be gone: hence the default argument.
    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self._descriptor >= 0:
            close(self._descriptor)

    def __repr__(self) -> str:
        return "<completion queue of asgiref.sync>"

    def fileno(self) -> int:
        """Return the descriptor; the selector, which asks for it, keeps the queue."""
        return self._descriptor

    def put(self, callback: Callable[[], object]) -> bool:
        """Have `callback` called on the loop's thread; false if the loop is closed. Any thread."""
        if self.loop.is_closed():
            return False
        try:
            with self._lock:
                self._callbacks.append(callback)
                is_first, self._is_woken = not self._is_woken, True
            return self._wake() if is_first else True
        except BaseException:
            # A signal handler raised. Others rely on the wake-up of this thread; two do no harm.
            self._wake()
            raise

    def _wake(self) -> bool:
        if self._pid != os.getpid():
            return False  # a forked child, where the descriptor may be another file by now
        self._ready.append(self)
        os.eventfd_write(self._descriptor, 1)
        return True

    def _run(self) -> None:
        """Call what was put here; the loop calls this from its ready queue."""
        if self._callbacks:
            self._call_all()

    def _call_all(self) -> None:
        try:
            with self._lock:
                # Cleared before the first callback is taken: a later one wakes the loop again.
                self._is_woken = False
                number = len(self._callbacks)
            if number > 1:
                # One of the callbacks may run the loop, which must find the others.
                self._ready.append(self)
            while number and self._callbacks:
                number -= 1
                self._call_first()
        except BaseException as error:
            # The callbacks that are left must get their turn all the same.
            self._ready.append(self)
            self._report(error)

    def _call_first(self) -> None:
        callback: Callable[[], object] | None = None
        try:
            callback = self._callbacks.popleft()
            callback()
        except BaseException as error:
            # A task raised KeyboardInterrupt or SystemExit through the loop, or a signal handler
            # raised anywhere in here. Calling twice does no harm.
            if callback is not None:
                callback()
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Tell the loop of `error`; raise what goes through loops."""
        if not isinstance(error, Exception):
            raise error
        message = "asgiref.sync could not resume a task"
        self.loop.call_exception_handler({"message": message, "exception": error})


CompletionQueue = EpollCompletionQueue | PublicCompletionQueue

# Read and written by one atomic operation of its dict each, and never iterated over: no lock. The
# queue refers to its loop, so the entry must not keep the queue.
_QUEUES = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[EpollCompletionQueue]]()


def completion_queue_of(loop: asyncio.AbstractEventLoop) -> CompletionQueue:
    """Return the completion queue of `loop`. On the loop's thread, while the loop runs."""
    reference = _QUEUES.get(loop)
    queue = None if reference is None else reference()
    if queue is not None:
        return queue
    if not _is_known(loop):
        return PublicCompletionQueue(loop)
    try:
        queue = EpollCompletionQueue(loop)
    except OSError:  # no file descriptor is left
        return PublicCompletionQueue(loop)
    _QUEUES[loop] = weakref.ref(queue)
    return queue


def resume(future: "asyncio.Future[None]") -> None:
    """Set the result of `future`, which is not done, and step the task that awaits it at once.

    Called by the loop, from inside no task. The future itself would schedule the step, and the loop
    take another turn for it: 5 µs more for each call.
    """
    callbacks: Any = None if _PUBLIC_ONLY else getattr(future, "_callbacks", None)
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
    # A wrapper of `create_task` may look the same by its attributes, but is of another type.
    create = asyncio.SelectorEventLoop.create_task
    if type(create) is types.FunctionType and create.__code__ is _CREATE_TASK_CODE:
        return asyncio.tasks.Task(coroutine, loop=loop, context=context, eager_start=True)
    return loop.create_task(coroutine, context=context)


def _original_code(function: object) -> types.CodeType | None:
    """Return the code of a function of asyncio, unless it was wrapped before this import.

    A wrapper's code is in another file, or is the original's with objects of the wrapper in it.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType) or code.co_filename != asyncio.base_events.__file__:
        return None
    plain = (str, bytes, int, float, tuple, type(None), types.CodeType)
    return code if all(isinstance(constant, plain) for constant in code.co_consts) else None


_CREATE_TASK_CODE = _original_code(asyncio.BaseEventLoop.create_task)


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
    if loop is None or not has_green_threads():
        return loop is not None
    return getattr(loop, "_thread_id", None) in (None, threading.get_ident())


def has_green_threads() -> bool:
    return getattr(threading.get_ident, "__module__", "_thread") != "_thread"


def run_loop(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any] | None" = None) -> None:
    """Run `loop` until it is stopped, or until `future` is done, whose exception is raised."""
    # A loop that runs here already is that of another greenlet, see `is_loop_running_here`.
    if future is None:
        run_outside_loop(loop.run_forever)
    else:
        run_outside_loop(loop.run_until_complete, future)


def run_one_turn(loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop` call what is in its ready queue now."""
    loop.call_soon(loop.stop)
    run_loop(loop)


LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_default_loop_factory: LoopFactory | None = None


def set_loop_factory(factory: LoopFactory | None) -> None:
    """Choose what makes the event loops of `async_to_sync`, for the whole process.

    Without it asyncio does, by its policy where it has policies (until Python 3.15). A
    ``loop_factory`` for one wrapper comes first. The choice holds for loops that are made from now
    on, in any thread; loops that run stay. Any thread may call this.

    Args:
        factory: called without arguments for each new loop, on any thread; None: asyncio's choice.

    >>> from asgiref.sync import async_to_sync
    >>> async def kind_of_loop():
    ...     return type(asyncio.get_running_loop()).__name__
    >>> class InstrumentedLoop(asyncio.SelectorEventLoop):
    ...     pass
    >>> set_loop_factory(InstrumentedLoop)
    >>> async_to_sync(kind_of_loop)()
    'InstrumentedLoop'
    >>> set_loop_factory(None)
    """
    global _default_loop_factory
    _default_loop_factory = factory


def new_event_loop(factory: LoopFactory | None = None) -> asyncio.AbstractEventLoop:
    """Make an event loop by `factory`, by the process's own, or as asyncio does."""
    make = factory or _default_loop_factory or asyncio.new_event_loop
    # In an empty context: a loop keeps the one that it was made in, with the caller's values.
    loop = Context().run(make)
    if has_green_threads() and type(loop) is asyncio.SelectorEventLoop:
        loop.close()
        loop = asyncio.SelectorEventLoop(_GreenSelector())
    return loop


def start_thread(thread: threading.Thread) -> None:
    """Start `thread`, with an empty context. Raises RuntimeError if that is not possible.

    Newer Pythons can start a thread with a copy of its starter's context, whose values it would
    keep for life. Starting a greenlet lets others run, whose loops must find no current task here.
    """
    if has_green_threads():
        run_outside_loop(Context().run, thread.start)
    else:
        Context().run(thread.start)


def run_outside_loop(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call `function`, in which this thread has no running loop and no current task."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return function(*args, **kwargs)
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        return function(*args, **kwargs)
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


class _GreenSelector(selectors.DefaultSelector):
    """Hides the running loop while it waits, for then other greenlets run in this thread."""

    def select(self, timeout: float | None = None) -> Any:
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return super().select(timeout)
        finally:
            asyncio._set_running_loop(loop)


def _origin_of_loops(factory: LoopFactory | None) -> object:
    """Return what makes new loops; another object once the application has chosen another."""
    if factory is not None or _default_loop_factory is not None:
        return factory or _default_loop_factory
    if sys.version_info >= (3, 14):
        get_policy = getattr(asyncio.events, "_get_event_loop_policy", None)
        return None if get_policy is None else get_policy()
    return asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]


# Loops as good as new

# Attributes that change while a loop runs without being a trace of anything.
_VOLATILE = frozenset(
    {"_clock_resolution", "_current_handle", "_stopping", "_thread_id", "_timer_cancelled_count"}
)

# A call may leave callbacks in the ready queue that only tell each other that something is done.
# They get this many turns of the loop before the loop counts as used.
_SETTLING_TURNS = 3


class ReusableLoop:
    """A new event loop, and how it looks before its first use, to tell later if it is as good.

    A trace of use is a task that is not done, a timer, a callback that waits for its turn, a
    registered descriptor, a transport, an asynchronous generator, a default executor, or any
    attribute that was set on the loop. Made and used on the loop's thread, which it is set in.
    """

    __slots__ = ("_attributes", "_get_values", "_origin", "_readers", "_values", "loop")

    def __init__(self, factory: LoopFactory | None = None) -> None:
        self._origin = _origin_of_loops(factory)
        self.loop: asyncio.AbstractEventLoop = new_event_loop(factory)
        self._values: tuple[object, ...] | None = None
        try:
            asyncio.set_event_loop(self.loop)
            if _is_known(self.loop):
                self._take_baseline(self.loop)
        except BaseException:
            self.loop.close()
            raise

    def _take_baseline(self, loop: Any) -> None:
        run_loop(loop, loop.create_task(_make_completion_queue()))
        self._attributes = len(loop.__dict__)
        # Taken and compared by functions written in C, because this is done after every call.
        self._get_values: Callable[[Any], tuple[object, ...]] = operator.itemgetter(
            *sorted(loop.__dict__.keys() - _VOLATILE)
        )
        self._values = self._get_values(loop.__dict__)
        self._readers = len(loop._selector._fd_to_key)

    def suspend(self) -> bool:
        """Suspend the loop until `resume`; false if it is not as good as new.

        A suspended loop refuses everything as a closed one does: a thread that kept the loop would
        wait in vain for what it schedules between two runs.
        """
        loop: Any = self.loop
        if self._values is None:
            return False
        for _ in range(_SETTLING_TURNS + 1):
            if self._is_as_good_as_new(loop):
                loop._closed = True
                if not loop._ready:
                    return True
                loop._closed = False
            if loop.is_closed() or not loop._ready:
                return False
            run_one_turn(loop)
        return False

    def is_made_by(self, factory: LoopFactory | None) -> bool:
        """Whether a new loop would be made in the same way."""
        return self._origin is _origin_of_loops(factory)

    def resume(self) -> None:
        """Undo `suspend`."""
        self.loop._closed = False  # type: ignore[attr-defined]

    def _is_as_good_as_new(self, loop: Any) -> bool:
        attributes = loop.__dict__
        try:
            return bool(
                not loop._ready
                and not loop._scheduled
                and len(loop._selector._fd_to_key) == self._readers
                and not loop._transports.data
                and not loop._asyncgens.data
                and len(attributes) == self._attributes
                # Compares by identity first: an equal value will do as well. A closed loop has
                # another value, too.
                and self._get_values(attributes) == self._values
                and not _has_tasks(loop)
            )
        except (AttributeError, KeyError):
            return False


async def _make_completion_queue() -> None:
    completion_queue_of(asyncio.get_running_loop())


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
