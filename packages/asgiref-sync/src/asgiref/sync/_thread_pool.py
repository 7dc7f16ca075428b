"""Worker threads: how they start, idle and exit, including at a fork and at interpreter exit.

The invariant: no work item can terminate a worker thread, and each accepted item is run or
discarded. A worker accepts items and stops accepting them under the same lock, so no item is lost.

Locks are reentrant, because a signal handler may call the bridge while its thread holds one. At
interpreter exit, before the first ``atexit`` function runs, idle workers exit and the interpreter
waits for busy ones (as `concurrent.futures` does); after that no worker can start. A forked child
has no worker threads and starts its own.
"""

import contextlib
import importlib
import itertools
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import ParamSpec, TypeVar

from ._asyncio_internals import has_green_threads, start_thread, system_thread
from ._thread_state import PROCESS, ThreadState, thread_state

logger = logging.getLogger("asgiref.sync")

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Seconds after which an idle pool thread exits.
IDLE_SECONDS = 60.0

#: The maximum number of seconds that a fork waits for idle threads to exit.
_SECONDS_BEFORE_FORK = 0.5


class WorkItem:
    """Something for a thread to run."""

    __slots__ = ()

    def run(self) -> None:
        """Do the work and store its outcome."""
        raise NotImplementedError

    def deliver(self) -> None:
        """Pass the outcome to the code that waits for it. The thread is already free."""

    def discard(self, error: BaseException) -> None:
        """Make `error` the outcome and deliver it: the item will not run."""
        raise NotImplementedError

    def run_and_deliver(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.discard(error)
            raise
        finally:
            self.deliver()


class SubmittedCall(WorkItem):
    """A function that was passed to `concurrent.futures.Executor.submit`."""

    __slots__ = ("_error", "_function", "_result", "future")

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function
        self._result: object = None
        self._error: BaseException | None = None
        self.future: Future[object] = Future()

    def run(self) -> None:
        function, self._function = self._function, None
        if function is None or not self.future.set_running_or_notify_cancel():
            return
        try:
            self._result = function()
        except BaseException as error:
            self._error = error

    def deliver(self) -> None:
        future = self.future
        try:
            if future.done():
                return
            if self._error is None:
                future.set_result(self._result)
            else:
                future.set_exception(self._error)
        finally:
            # The error's traceback keeps this frame alive.
            self._error = self._result = None
            del future

    def discard(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


# The worker threads of the process with this id, idle or not.
_workers: "set[WorkerThread]" = set()
_workers_pid = PROCESS.pid


def _workers_of_this_process() -> "set[WorkerThread]":
    global _workers, _workers_pid
    if _workers_pid != PROCESS.refresh():
        _workers, _workers_pid = set[WorkerThread](), PROCESS.pid
    return _workers


def all_workers() -> "list[WorkerThread]":
    """Return the worker threads of this process, idle or not. Takes no lock."""
    return list(_workers_of_this_process().copy())


def _finish_workers() -> None:
    """Stop all workers, and wait for those that are running functions."""
    workers = all_workers()
    PROCESS.is_exiting = True
    for worker in workers:
        worker.end()
    for worker in workers:
        is_waited_for = worker.pool is None or worker.pool.is_waited_for_at_exit
        if worker.system_thread != system_thread():
            continue
        if is_waited_for or not worker.is_busy or not _is_main_interpreter():
            with contextlib.suppress(RuntimeError):  # another thread has not started it yet
                worker.thread.join()


def _is_main_interpreter() -> bool:
    """Whether threads may be left running when this interpreter ends."""
    is_main: Callable[[], bool] | None = getattr(threading, "_is_main_interpreter", None)
    if is_main is not None:
        return is_main()
    interpreters = importlib.import_module("_xxsubinterpreters")  # Python 3.11
    return bool(interpreters.get_current() == interpreters.get_main())


try:
    # `concurrent.futures` uses this hook too. It runs before the interpreter refuses new threads.
    threading._register_atexit(_finish_workers)  # type: ignore[attr-defined]
except RuntimeError:  # imported while the interpreter is exiting
    PROCESS.is_exiting = True


class WorkerThread:
    """A thread that runs the items in its queue, in order, until `end` is called.

    Args:
        name: the thread's name.
        first: its first item.
        pool: the pool that it belongs to, if any.
    """

    def __init__(self, name: str, first: WorkItem, pool: "ThreadPool | None" = None) -> None:
        self._thread_kind: object = threading.local
        self._queue: queue.SimpleQueue[WorkItem | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self.pool: ThreadPool | None = pool
        self.ended: bool = False
        # The number of items accepted so far, and how many of those have run.
        self._accepted, self._done = 1, 0
        self._is_running = False
        self._queue.put(first)
        self.pid: int = PROCESS.pid
        #: The same for all threads, unless they are greenlets.
        self.system_thread: int = system_thread()
        #: The thread's state; None until the thread runs.
        self.state: ThreadState | None = None
        try:
            self.thread: threading.Thread = threading.Thread(
                target=self._work, name=name, daemon=True
            )
        except RuntimeError:  # isolated subinterpreters have no daemon threads
            self.thread = threading.Thread(target=self._work, name=name, daemon=False)

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if it cannot be started."""
        if PROCESS.is_exiting:
            raise RuntimeError("cannot start a thread: the interpreter is shutting down")
        # Record the worker before it runs, so that an exiting interpreter waits for its first item.
        workers = _workers_of_this_process()
        try:
            workers.add(self)
            start_thread(self.thread)
        except BaseException:
            if not self.thread.is_alive():
                workers.discard(self)
            raise

    # Methods that any thread may call.

    @property
    def is_busy(self) -> bool:
        """Whether the thread is running an item or has one in its queue."""
        # When `put` counts an item, the thread may already have started it.
        return self._is_running or self._done != self._accepted

    @property
    def is_delivering(self) -> bool:
        """Whether the thread has finished a function for the bridge and is about to be idle."""
        pool, state = self.pool, self.state
        if pool is None or not pool.is_waited_for_at_exit or state is None:
            return False
        return self.is_busy and state.call is None

    @property
    def queued(self) -> int:
        """The number of items waiting for this thread."""
        return self._queue.qsize()

    def is_current_thread(self) -> bool:
        return self.thread is threading.current_thread()

    def put(self, item: WorkItem) -> bool:
        """Queue `item`. Return False if the thread has ended or is not of the current kind."""
        if self._thread_kind is not threading.local:
            return False  # gevent's patch came later: greenlets cannot wait for a system thread
        with self._lock:
            if self.ended:
                return False
            self._queue.put(item)
            self._accepted += 1
            return True

    def end(self) -> None:
        """Make the thread exit after the items that are queued now."""
        self._queue.put(None)

    # Methods for the thread itself.

    def _work(self) -> None:
        workers = _workers_of_this_process()
        # Threads started by work items must not inherit the daemon flag.
        self.thread._daemonic = False  # type: ignore[attr-defined]
        try:
            # An interrupted `start` may have removed this worker before its thread ran.
            workers.add(self)
            while not self.ended:
                try:
                    self.state = thread_state()
                    self._run_items()
                except BaseException:
                    # Another thread raised this exception in this one, or a future's callback did.
                    with contextlib.suppress(Exception):
                        logger.exception("a worker thread of asgiref.sync continues after an error")
        finally:
            self._close()
            workers.discard(self)
            if self.pool is not None:
                self.pool.thread_ended()

    def _run_items(self) -> None:
        get = self._queue.get
        timeout = None if self.pool is None else IDLE_SECONDS
        while True:
            try:
                item = get(timeout=timeout)
            except queue.Empty:
                if self._retire():
                    return
                continue
            if item is None:
                self._close()
                return
            try:
                self._is_running = True
                item.run()
            except BaseException as error:
                item.discard(error)
                raise
            finally:
                self._is_running = False
                self._done += 1
                if self.pool is not None:
                    # Before the delivery, so that the waiting code can submit to this thread again.
                    self.pool.add_idle(self)
                item.deliver()
            # Do not keep the item's arguments alive while waiting for the next one.
            del item

    def _retire(self) -> bool:
        """Accept no more items, unless one is queued already. Return whether the thread exits."""
        if self.pool is not None:
            self.pool.forget_idle(self)
        with self._lock:
            self.ended = self._queue.empty()
            return self.ended

    def _close(self) -> None:
        """Accept no more items, and discard those that were queued too late to run."""
        with self._lock:
            self.ended = True
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None:
                item.discard(RuntimeError(f"{self.thread.name} ended before it ran this call"))


class ThreadPool:
    """Threads that run one item at a time. Idle ones are reused, and exit after a minute.

    The pool does not limit the number of threads; `_limits` does.
    """

    def __init__(
        self,
        name: str,
        on_thread_end: Callable[[], None] | None = None,
        is_waited_for_at_exit: bool = True,
    ) -> None:
        self._name = name
        self._on_thread_end = on_thread_end
        self.is_waited_for_at_exit = is_waited_for_at_exit
        self._numbers = itertools.count(1)
        self._start_anew()

    def end_idle_before_fork(self) -> None:
        """Stop the idle threads before each `os.fork`.

        Python warns when a process that has threads forks. asgiref 3.13 keeps no thread between
        calls, so its users see no warning.
        """
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._end_idle)

    def _start_anew(self) -> None:
        self._pid = PROCESS.pid
        # No lock: taking a worker out is one atomic operation, so only one thread gets it.
        self._idle: dict[int, dict[WorkerThread, bool]] = {}
        self._open = True

    def submit(self, item: WorkItem) -> None:
        """Run `item` on the thread that became idle most recently, or on a new one.

        Raises RuntimeError if no thread can be started.
        """
        if self._pid != PROCESS.pid:
            self._start_anew()
        if PROCESS.is_exiting:
            raise RuntimeError("cannot start a thread: the interpreter is shutting down")
        worker: WorkerThread | None = None
        idle = self._idle_here()
        try:
            while idle:
                try:
                    worker, _ = idle.popitem()
                except KeyError:  # another thread took the last one
                    break
                if worker.put(item):
                    return
        except BaseException:
            # A signal handler raised. If the worker did not get the item, it is idle again.
            if worker is not None and not worker.is_busy:
                idle[worker] = True
            raise
        WorkerThread(f"{self._name}-{next(self._numbers)}", item, self).start()

    def _idle_here(self) -> dict[WorkerThread, bool]:
        """Return the idle workers that the current thread can wake."""
        return self._idle.setdefault(system_thread(), {})

    def add_idle(self, worker: WorkerThread) -> None:
        """Make `worker`, the calling thread, available for the next item."""
        self._idle_here()[worker] = True
        if not self._open:
            worker.end()

    def forget_idle(self, worker: WorkerThread) -> None:
        """Submit nothing more to `worker`, the calling thread."""
        self._idle_here().pop(worker, None)

    def thread_ended(self) -> None:
        """Clean up on a thread of this pool that is about to exit."""
        if self._on_thread_end is not None:
            self._on_thread_end()

    def close(self) -> None:
        """Stop the idle threads now, and each busy one after its current item."""
        self._open = False
        for worker in self._own_workers():
            worker.end()

    def _own_workers(self) -> "list[WorkerThread]":
        return [worker for worker in all_workers() if worker.pool is self]

    def owns_current_thread(self) -> bool:
        return any(worker.is_current_thread() for worker in self._own_workers())

    def join(self) -> None:
        """Wait until all threads have exited. A thread of this pool must not call this."""
        for worker in self._own_workers():
            with contextlib.suppress(RuntimeError):  # another thread has not started it yet
                worker.thread.join()

    def _end_idle(self) -> None:
        """Stop the idle threads, and wait until they have exited."""
        if self._pid != PROCESS.refresh():
            return
        deadline = time.monotonic() + _SECONDS_BEFORE_FORK
        while any(worker.is_delivering for worker in self._own_workers()):
            if time.monotonic() > deadline:
                break
            time.sleep(0)
        ended: list[WorkerThread] = []
        idle = self._idle_here()
        while idle:
            with contextlib.suppress(KeyError):
                worker, _ = idle.popitem()
                worker.end()
                ended.append(worker)
        for worker in ended:
            # An exiting thread's destructors can wait for a lock that the forking thread holds.
            worker.thread.join(max(0.0, deadline - time.monotonic()))
            if sys.version_info < (3, 13) and not has_green_threads():
                _wait_for_end_of_system_thread(worker.thread)


def _wait_for_end_of_system_thread(thread: threading.Thread) -> None:
    """Wait for the operating system's thread, which before 3.13 can outlive `join` briefly.

    `os.fork` counts the operating system's threads.
    """
    deadline = time.monotonic() + 0.1
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < deadline:
        time.sleep(0)


class SingleThreadExecutor(Executor):
    """An executor with one thread, which starts with the first call.

    The thread exits after `shutdown`, or when this object is garbage-collected.

    Args:
        name: the thread's name.
        is_permanent: make `shutdown` do nothing, because the whole process shares the thread.
    """

    def __init__(self, name: str, is_permanent: bool = False) -> None:
        self._name = name
        self._is_permanent = is_permanent
        self._pid = PROCESS.pid
        self._lock = threading.RLock()
        self._open = True
        self._worker: WorkerThread | None = None

    def __del__(self) -> None:
        worker = self.worker
        if worker is not None:
            worker.end()

    @property
    def worker(self) -> WorkerThread | None:
        """The thread, if it was started in this process."""
        worker = self._worker
        if worker is None or worker.ended or worker.pid != PROCESS.pid:
            return None
        return worker

    def put(self, item: WorkItem) -> None:
        """Queue `item` on the thread. Raises RuntimeError if the thread cannot be started."""
        worker = self.worker
        if worker is None or not worker.put(item):
            self._start_with(item)

    def _start_with(self, item: WorkItem) -> None:
        if self._pid != PROCESS.pid:
            # A thread that the fork did not copy may hold the old lock.
            self._pid, self._lock = PROCESS.pid, threading.RLock()
        with self._lock:
            worker = self.worker
            if worker is not None and worker.put(item):
                return
            if not self._open:
                raise RuntimeError(f"the executor of {self._name} was shut down")
            try:
                # Set before the start: the item may check whether it occupies the thread.
                self._worker = WorkerThread(self._name, item)
                self._worker.start()
            except BaseException:
                worker, self._worker = self._worker, None
                if worker is not None:
                    worker.end()  # a signal handler may have raised after the start
                raise

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the thread; return its future."""
        PROCESS.refresh()
        call = SubmittedCall(partial(fn, *args, **kwargs))
        self.put(call)
        return call.future  # type: ignore[return-value]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Make the thread exit after the items that are queued now, and wait for it if `wait`."""
        if self._is_permanent:
            return
        self._open = False
        worker = self.worker
        if worker is None:
            return
        worker.end()
        if wait and not worker.is_current_thread():
            worker.thread.join()
