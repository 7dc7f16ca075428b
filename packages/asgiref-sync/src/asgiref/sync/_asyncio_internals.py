"""All private names of asyncio that the bridge uses, and a fallback that uses only the public API.

`_is_known` decides whether the bridge can use them on a loop: yes for asyncio's own selector loop
on epoll. Any other loop (uvloop, a subclass, other platforms) gets the fallback. To force the
fallback, set the environment variable ``ASGIREF_SYNC_PUBLIC_ASYNCIO``.

The private names save time: an eventfd wakes the loop, and the loop steps the waiting task in the
same iteration (a call takes 20 µs instead of 30); coroutines start one iteration earlier; and a
loop that shows no trace of use can be kept for the next call (a top-level call then takes a fifth
of the time).
"""

import asyncio
import gc
import operator
import os
import select
import selectors
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PUBLIC_ONLY = bool(os.environ.get("ASGIREF_SYNC_PUBLIC_ASYNCIO"))
_HAS_EPOLL = not _PUBLIC_ONLY and sys.platform == "linux" and hasattr(os, "eventfd")


def _is_known(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is asyncio's own selector loop on epoll, with the expected attributes."""
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


# Completion queues: they deliver results to a loop, and also coroutines that it must start.


class PublicCompletionQueue:
    """Calls functions on a loop's thread through the public ``call_soon_threadsafe``."""

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
    """Calls functions on the thread of asyncio's own loop, with one wake-up for several functions.

    To wake the loop, a thread appends this queue, which is a handle, to the loop's ready queue, and
    writes to an eventfd. When the loop sees the eventfd's event, it appends the queue again. Both
    steps are needed, because an interrupt of the loop can lose either one. The selector watches the
    descriptor edge-triggered, so each write is one event and nothing needs to read the descriptor.

    The loop's selector and each call in flight own the queue; the last owner closes the descriptor.
    So no thread can write to a descriptor that is closed or already reused for another file.

    Unlike asyncio's handles, the queue enters no context. A loop that runs inside one of its own
    callbacks (with nest_asyncio) runs the queue recursively, and a context cannot be entered twice.
    """

    __slots__ = ("_callbacks", "_descriptor", "_is_woken", "_lock", "_pid", "_ready", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor = -1
        super().__init__(completion_queue_of, (), loop, Context())
        self.loop: asyncio.AbstractEventLoop = loop
        internals: Any = loop
        self._ready: deque[asyncio.Handle] = internals._ready
        self._callbacks: deque[Callable[[], object]] = deque()
        # Reentrant: a signal handler may set a `ThreadEvent` while its thread holds the lock.
        self._lock = threading.RLock()
        self._is_woken = False
        self._pid = os.getpid()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        internals._selector.register(self, selectors.EVENT_READ, (self, None))
        internals._selector._selector.modify(self._descriptor, select.EPOLLIN | select.EPOLLET)

    # A default argument, because this module's globals may be gone at interpreter exit.
    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self._descriptor >= 0:
            close(self._descriptor)

    def __repr__(self) -> str:
        return "<completion queue of asgiref.sync>"

    def fileno(self) -> int:
        """Return the descriptor. The selector calls this and keeps the queue alive."""
        return self._descriptor

    def put(self, callback: Callable[[], object]) -> bool:
        """Call `callback` on the loop's thread. Return False if the loop is closed.

        Any thread may call this.
        """
        if self.loop.is_closed():
            return False
        try:
            with self._lock:
                self._callbacks.append(callback)
                is_first, self._is_woken = not self._is_woken, True
            return self._wake() if is_first else True
        except BaseException:
            # A signal handler raised. Other threads rely on this wake-up, and a second one does no
            # harm.
            self._wake()
            raise

    def _wake(self) -> bool:
        if self._pid != os.getpid():
            return False  # in a forked child, the descriptor may refer to another file
        self._ready.append(self)
        os.eventfd_write(self._descriptor, 1)
        return True

    def _run(self) -> None:
        """Call the queued functions. The loop calls this from its ready queue."""
        if not self._callbacks:
            return
        try:
            with self._lock:
                # Clear this before taking the first callback, so that a later `put` wakes the loop.
                self._is_woken = False
                number = len(self._callbacks)
            if number > 1:
                # A callback may run the loop, which must find the other callbacks.
                self._ready.append(self)
            while number and self._callbacks:
                number -= 1
                self._call_first()
        except BaseException as error:
            # The remaining callbacks must still run.
            self._ready.append(self)
            self._report(error)

    def _call_first(self) -> None:
        callback: Callable[[], object] | None = None
        try:
            callback = self._callbacks.popleft()
            callback()
        except BaseException as error:
            # A task raised KeyboardInterrupt or SystemExit, or a signal handler raised at any line
            # here. Calling twice is harmless.
            if callback is not None:
                callback()
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Pass `error` to the loop's exception handler, or raise it if it is not an `Exception`."""
        if not isinstance(error, Exception):
            raise error
        message = "asgiref.sync could not resume a task"
        self.loop.call_exception_handler({"message": message, "exception": error})


CompletionQueue = EpollCompletionQueue | PublicCompletionQueue

# No lock: each access is one atomic operation of the dictionary, and no code iterates over it. The
# reference is weak because the queue refers to its loop, the key.
_QUEUES = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[EpollCompletionQueue]]()


def completion_queue_of(loop: asyncio.AbstractEventLoop) -> CompletionQueue:
    """Return the completion queue of `loop`. Call it on the loop's thread while the loop runs."""
    reference = _QUEUES.get(loop)
    queue = None if reference is None else reference()
    if queue is not None:
        return queue
    if not _is_known(loop):
        return PublicCompletionQueue(loop)
    try:
        queue = EpollCompletionQueue(loop)
    except OSError:  # no file descriptors are left
        return PublicCompletionQueue(loop)
    _QUEUES[loop] = weakref.ref(queue)
    return queue


def resume(future: "asyncio.Future[None]") -> None:
    """Set the result of `future`, which is not done, and step the waiting task at once.

    The loop must call this outside any task. The future itself would schedule the step for the
    loop's next iteration, which costs 5 µs.
    """
    callbacks: Any = None if _PUBLIC_ONLY else getattr(future, "_callbacks", None)
    if not callbacks or len(callbacks) > 1 or future.get_loop().get_debug():
        # In debug mode asyncio must run the step itself, so that it can report a slow step.
        future.set_result(None)
        return
    [(step, context)] = callbacks
    is_stepped = False
    try:
        future.remove_done_callback(step)
        future.set_result(None)
        # On one line, because a signal handler can raise between two lines.
        _ = (is_stepped := True) and context.run(step, future)
    except BaseException:
        if not is_stepped:
            future.get_loop().call_soon(step, future, context=context)
        raise
    finally:
        # The traceback of a failing task keeps this frame alive, and `step` keeps the task alive.
        del step, context, callbacks, future


# Tasks


def create_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context
) -> "asyncio.Task[None]":
    """Create a task on `loop`, which runs in this thread, and start it at once if possible.

    If a tracer has wrapped ``loop.create_task`` or a subclass has overridden it, that version
    creates the task.
    """
    if loop.get_task_factory() is not None:
        # A factory need not accept a context.
        return context.run(loop.create_task, coroutine)
    is_plain = type(loop) is asyncio.SelectorEventLoop and "create_task" not in loop.__dict__
    if is_plain and not _PUBLIC_ONLY:
        if sys.version_info >= (3, 14):
            return loop.create_task(coroutine, context=context, eager_start=True)
        create = asyncio.SelectorEventLoop.create_task
        if (
            sys.version_info >= (3, 12)
            and type(create) is types.FunctionType
            and create.__code__ is _CREATE_TASK_CODE
        ):
            return asyncio.tasks.Task(coroutine, loop=loop, context=context, eager_start=True)
    return loop.create_task(coroutine, context=context)


def _original_code(function: object) -> types.CodeType | None:
    """Return the code of an asyncio function, unless a tracer wrapped it before this import.

    A wrapper's code has a different file or name, or its constants contain the wrapper's objects.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType) or code.co_filename != asyncio.base_events.__file__:
        return None
    if code.co_qualname != getattr(function, "__qualname__", None):
        return None
    plain = (str, bytes, int, float, tuple, type(None), types.CodeType)
    return code if all(isinstance(constant, plain) for constant in code.co_consts) else None


_CREATE_TASK_CODE = _original_code(asyncio.BaseEventLoop.create_task)


def custom_default_executor(loop: asyncio.AbstractEventLoop, usual_limit: int) -> Any:
    """Return the executor that the application set with `loop.set_default_executor`, if any.

    The executor that asyncio creates for the first `asyncio.to_thread` does not count; the name of
    its threads and its `usual_limit` identify it. Other kinds of loop do not expose their executor.
    """
    executor = getattr(loop, "_default_executor", None)
    if (
        getattr(executor, "_thread_name_prefix", None) == "asyncio"
        and getattr(executor, "_max_workers", None) == usual_limit
    ):
        return None
    return executor


# Waits of tasks. Without the private names here, deadlock detection finds fewer deadlocks.


def future_of_coroutine(future: Any) -> "asyncio.Future[Any] | None":
    """Return the task of the coroutine that `asyncio.run_coroutine_threadsafe` started.

    Args:
        future: any `concurrent.futures.Future`. Unless that function created it and its task has
            started, the result is None.
    """
    callbacks: tuple[Any, ...] = tuple(getattr(future, "_done_callbacks", ()))
    for callback in callbacks:
        if type(callback) is types.FunctionType and callback.__module__ == "asyncio.futures":
            names, cells = callback.__code__.co_freevars, callback.__closure__ or ()
            # It cancels the task if `future` is cancelled.
            source = cells[names.index("source")].cell_contents if "source" in names else None
            if asyncio.isfuture(source):
                return source
    return None


def futures_awaited_by(future: "asyncio.Future[Any]") -> "list[asyncio.Future[Any]]":
    """Return the unfinished futures of which at least one must be done before `future` is done.

    An empty list means that `future` may be done without any of them, for example after a timeout.
    Call this on the thread of the future's loop.
    """
    if isinstance(future, asyncio.Task):
        awaited = _awaited_by_task(future)
    else:
        awaited = set(getattr(future, "_children", ()))  # set by `asyncio.gather`
    return [each for each in awaited if not each.done()]


def _awaited_by_task(task: "asyncio.Task[Any]") -> "set[asyncio.Future[Any]]":
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return set()
    awaited: set[asyncio.Future[Any]] = {waiter}
    for manager in _referents_of_frames(task.get_coro()):
        if issubclass(type(manager), asyncio.Timeout) and manager.when() is not None:
            return set()
        if (
            issubclass(type(manager), asyncio.TaskGroup)
            and getattr(manager, "_parent_task", None) is task
        ):
            # If a task in the group fails, that ends the wait too.
            awaited.update(manager._tasks)
            if waiter is manager._on_completed_fut:
                awaited.discard(waiter)
    return awaited


def _referents_of_frames(coroutine: Any) -> Iterator[Any]:
    """Yield the objects in the frames of `coroutine` and of the coroutines that it awaits.

    An ``async with`` block does not keep its context manager in a variable, only on its frame's
    stack; some versions of Python keep the manager's bound method there instead.
    """
    while isinstance(coroutine, types.CoroutineType):
        for referent in gc.get_referents(coroutine):
            yield referent.__self__ if type(referent) is types.MethodType else referent
        coroutine = coroutine.cr_await


# Running loops


def is_loop_running_here() -> bool:
    """Whether an event loop runs in the current thread.

    With gevent and eventlet a "thread" is a greenlet. asyncio records the running loop once per
    operating system thread, so the record can refer to another greenlet's loop.
    """
    loop = asyncio._get_running_loop()
    if loop is None or not has_green_threads():
        return loop is not None
    return getattr(loop, "_thread_id", None) in (None, threading.get_ident())


def has_green_threads() -> bool:
    return getattr(threading.get_ident, "__module__", "_thread") != "_thread"


def system_thread() -> int:
    """Return the native id of this thread if it is a greenlet, otherwise 0.

    gevent's own thread pool has more system threads. A greenlet cannot wake a greenlet on another
    system thread, whose hub may not be running, and cannot wait for it.
    """
    return threading.get_native_id() if has_green_threads() else 0


def run_loop(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any] | None" = None) -> None:
    """Run `loop` until it is stopped, or until `future` is done. Raises the future's exception."""
    # If asyncio reports a running loop here, another greenlet runs it: see `is_loop_running_here`.
    run_outside_loop(_run_unrecorded, loop, future)


def _run_unrecorded(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any] | None") -> None:
    asyncio._set_running_loop(None)
    if future is None:
        loop.run_forever()
    else:
        loop.run_until_complete(future)


def run_one_turn(loop: asyncio.AbstractEventLoop) -> None:
    """Run the callbacks that are now in the ready queue of `loop`."""
    loop.call_soon(loop.stop)
    run_loop(loop)


LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_default_loop_factory: LoopFactory | None = None


def set_loop_factory(factory: LoopFactory | None) -> None:
    """Choose the factory for the event loops that `async_to_sync` uses, for the whole process.

    By default, asyncio creates the loops, through its policy in versions that have policies (until
    Python 3.15). A wrapper's own ``loop_factory`` takes precedence. The choice affects loops that
    are created after this call, in any thread; running loops do not change. Any thread may call
    this.

    Args:
        factory: called without arguments for each new loop, on any thread. None restores asyncio's
            choice.

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
    """Create an event loop with `factory`, or the process's factory, or asyncio's default."""
    make = factory or _default_loop_factory or asyncio.new_event_loop
    # In an empty context, because a loop keeps the values of the context that it is created in.
    if not has_green_threads():
        return Context().run(make)
    loop = Context().run(make)
    if type(loop) is asyncio.SelectorEventLoop:
        loop.close()
        loop = asyncio.SelectorEventLoop(_GreenSelector())
    return loop


def start_thread(thread: threading.Thread) -> None:
    """Start `thread` with an empty context. Raises RuntimeError if it cannot be started.

    Newer Pythons can start a thread with a copy of the context of the thread that started it, and
    the new thread would keep those values alive until it exits. Starting a greenlet lets other
    greenlets run. Their loops must find no current task in this thread.
    """
    if has_green_threads():
        run_outside_loop(Context().run, thread.start)
    else:
        Context().run(thread.start)


def run_outside_loop(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call `function` while this thread has no running loop and no current task."""
    if has_green_threads():
        return _run_outside_green_loop(function, *args, **kwargs)
    loop = asyncio._get_running_loop()
    if loop is None:
        return function(*args, **kwargs)
    task = _leave_current_task(loop)
    asyncio._set_running_loop(None)
    try:
        return function(*args, **kwargs)
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


def _leave_current_task(loop: asyncio.AbstractEventLoop) -> "asyncio.Task[Any] | None":
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    return task


# For all greenlets of a system thread, asyncio records one running loop, and Python keeps one pair
# of hooks for asynchronous generators. A loop of the application that waits in a plain selector
# expects to find its own there afterwards. The bridge's own loops, which may run and wait in the
# meantime, therefore leave that loop's there. By native id, because gevent's own thread pool has
# more system threads, whose records are independent.
_LOOPS_IN_RECORD = weakref.WeakValueDictionary[int, asyncio.AbstractEventLoop]()


def _loop_of_other_greenlet(own: asyncio.AbstractEventLoop | None) -> Any:
    """Return the running loop that another greenlet expects in asyncio's record, or None."""
    loop = _LOOPS_IN_RECORD.get(threading.get_native_id())
    return loop if loop is not None and loop is not own and loop.is_running() else None


def _record_loop(loop: Any) -> None:
    """Record `loop`, or None, as the running loop of this system thread.

    With the hooks of another loop, its end would close the asynchronous generators of this one.
    """
    asyncio._set_running_loop(loop)
    sys.set_asyncgen_hooks(
        firstiter=getattr(loop, "_asyncgen_firstiter_hook", None),
        finalizer=getattr(loop, "_asyncgen_finalizer_hook", None),
    )


def _run_outside_green_loop(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    loop = asyncio._get_running_loop()
    if loop is not None and not isinstance(getattr(loop, "_selector", None), _GreenSelector):
        _LOOPS_IN_RECORD[threading.get_native_id()] = loop
    own = loop if is_loop_running_here() else None
    task = None if own is None else _leave_current_task(own)
    _record_loop(_loop_of_other_greenlet(own))
    try:
        return function(*args, **kwargs)
    finally:
        _record_loop(_loop_of_other_greenlet(None) if own is None else own)
        if own is not None and task is not None:
            asyncio.tasks._enter_task(own, task)


class _GreenSelector(selectors.BaseSelector):
    """Hides the running loop while it waits, because other greenlets then run in this thread.

    It contains the default selector instead of deriving from it: the patch that makes the default
    selector wait for one greenlet only may come after this module's import.
    """

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> Any:
        loop = asyncio._get_running_loop()
        _record_loop(_loop_of_other_greenlet(loop))
        try:
            return self._inner.select(timeout)
        finally:
            _record_loop(loop)


def _origin_of_loops(factory: LoopFactory | None) -> object:
    """Return the object that creates new loops: a factory or asyncio's policy."""
    if factory is not None or _default_loop_factory is not None:
        return factory or _default_loop_factory
    if sys.version_info >= (3, 14):
        get_policy = getattr(asyncio.events, "_get_event_loop_policy", None)
        return None if get_policy is None else get_policy()
    return asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]


# Loops without a trace of use

# Attributes that change while a loop runs, without leaving state for a later call.
_VOLATILE = frozenset(
    {"_clock_resolution", "_current_handle", "_stopping", "_thread_id", "_timer_cancelled_count"}
)

# A call may leave callbacks in the ready queue that only report that something is done. The loop
# gets this many iterations to run them before it counts as used.
_SETTLING_TURNS = 3


class ReusableLoop:
    """A new event loop, and a baseline of its attributes that later reveals any trace of use.

    A trace of use is an unfinished task, a timer, a callback in the ready queue, a registered
    descriptor, a transport, an asynchronous generator, a default executor, or any attribute that
    was set on the loop. The loop is the current event loop of the thread that created it, and only
    that thread uses this object.
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
        # This runs after every call, so it uses `itemgetter` and a comparison of tuples, which are
        # written in C.
        self._get_values: Callable[[Any], tuple[object, ...]] = operator.itemgetter(
            *sorted(loop.__dict__.keys() - _VOLATILE)
        )
        self._values = self._get_values(loop.__dict__)
        self._readers = len(loop._selector._fd_to_key)

    def suspend(self) -> bool:
        """Suspend the loop until `resume`. Return False if it shows a trace of use.

        A suspended loop refuses callbacks like a closed one. Otherwise a thread that kept a
        reference to the loop could schedule a callback that may never run.
        """
        loop: Any = self.loop
        if self._values is None:
            return False
        for _ in range(_SETTLING_TURNS + 1):
            if self._is_pristine(loop):
                loop._closed = True
                if not loop._ready:
                    return True
                loop._closed = False
            if loop.is_closed() or not loop._ready:
                return False
            run_one_turn(loop)
        return False

    def is_made_by(self, factory: LoopFactory | None) -> bool:
        """Whether a new loop would be created in the same way."""
        return self._origin is _origin_of_loops(factory)

    def resume(self) -> None:
        """Undo `suspend`."""
        self.loop._closed = False  # type: ignore[attr-defined]

    def _is_pristine(self, loop: Any) -> bool:
        attributes = loop.__dict__
        try:
            return bool(
                not loop._ready
                and not loop._scheduled
                and len(loop._selector._fd_to_key) == self._readers
                and not loop._transports.data
                and not loop._asyncgens.data
                and len(attributes) == self._attributes
                # Tuples compare items by identity first; an equal value is fine too. This also
                # detects a closed loop.
                and self._get_values(attributes) == self._values
                and not _has_tasks(loop)
            )
        except (AttributeError, KeyError):
            return False


async def _make_completion_queue() -> None:
    completion_queue_of(asyncio.get_running_loop())


def _has_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop`, which is not running, has unfinished tasks.

    `asyncio.all_tasks` examines every task in the process (until 3.14), and takes 5 µs even if
    there are none. The lengths of asyncio's own collections show at once that the process has none.
    """
    if _TASKS and not any(_TASKS):
        return False
    return bool(asyncio.all_tasks(loop))


def _collections_of_tasks() -> "list[Collection[object]]":
    """Return asyncio's own collections of unfinished tasks, if they exist as expected."""
    if sys.version_info >= (3, 14):
        return []
    names = ["_scheduled_tasks"] if sys.version_info >= (3, 12) else ["_all_tasks"]
    # The set inside a WeakSet, whose own len() is written in Python.
    found: list[Any] = [getattr(getattr(asyncio.tasks, name, None), "data", None) for name in names]
    if sys.version_info >= (3, 12):
        found.append(getattr(asyncio.tasks, "_eager_tasks", None))
    return [] if None in found else found


_TASKS = _collections_of_tasks()
