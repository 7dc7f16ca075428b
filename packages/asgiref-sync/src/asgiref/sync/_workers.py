"""Worker threads: what runs the functions that async code calls.

A worker is a daemon thread and a queue. Only its thread takes from the queue. What is in the queue
has a method `run` that must not raise.

Workers are lent, one user at a time: a thread-sensitive context keeps one until it exits, a call
with ``thread_sensitive=False`` for as long as it runs. Idle ones wait in the pool, the most
recently used on top; one that stays idle too long takes itself out of the pool and ends. Taking out
of a `deque` is atomic, so whoever gets the worker out (a borrower, or its own expiry) owns it, and
no lock is needed.

The pool's first rule: a worker must not be given back while anything of its user is queued or
running on it; the next user's call would wait behind it, and if that waited in turn for the next
user, for ever. A lender therefore knows which calls are on the worker (`Lease`), or gives it back
from the worker's own thread after its last one (`ParallelCalls`).

A thread that passes to another user must not show the first one's data. Whoever keeps per-thread
data can append a callable to ``threading.current_thread().__dict__["__asgiref_handover__"]``; it is
called once, on that thread, before the next user's first call. `asgiref.local.Local` uses this for
``thread_critical``. (A pool whose calls all have the same user has nothing to hand over.)
"""

import itertools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from typing import Any, ParamSpec, Protocol, TypeVar

from ._threads import PROCESS, THREAD, ThreadRecord, start_daemon

__all__ = [
    "IDLE_SECONDS",
    "Runnable",
    "SharedWorker",
    "SubmittedCall",
    "Worker",
    "WorkerPool",
    "wait_for_workers",
]

logger = logging.getLogger("asgiref.sync")

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: An idle pooled thread ends after this many seconds.
IDLE_SECONDS = 60.0

HANDOVER = "__asgiref_handover__"


class Runnable(Protocol):
    """What a worker's queue holds."""

    def run(self) -> None: ...


class SubmittedCall:
    """A function that was submitted through the interface of `concurrent.futures.Executor`."""

    __slots__ = ("_function", "future", "place", "release")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.future: Future[Any] = Future()
        self.release: Callable[[Any], object] | None = None
        #: As that of `Call`.
        self.place: object = None

    def run(self) -> None:
        future = self.future
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(self._function())
        except BaseException as error:
            future.set_exception(error)
        finally:
            del future
            if self.release is not None:
                self.release(self)

    def drop(self) -> None:
        """Cancel the call, which nothing runs any more."""
        if self.future.cancel():
            self.future.set_running_or_notify_cancel()


class _Handover:
    """Clears what the last user left in a thread; queued before the next user is let in."""

    __slots__ = ()

    def run(self) -> None:
        for clear in threading.current_thread().__dict__.pop(HANDOVER, ()):
            try:
                clear()
            except Exception:
                logger.exception("%r failed to clear a thread for its next user", clear)


class Worker:
    """A thread that runs what is put into its queue, in order."""

    __slots__ = ("_expire", "_queue", "epoch", "put", "record", "thread")

    def __init__(self, name: str, expire: "Callable[[Worker], bool] | None" = None) -> None:
        self._queue: queue.SimpleQueue[Runnable | None] = queue.SimpleQueue()
        #: Queue something to run; None, as the last, to end. Any thread.
        self.put: Callable[[Runnable | None], None] = self._queue.put
        self._expire = expire
        self.epoch: int = PROCESS.epoch
        #: What the thread is doing; None until it runs.
        self.record: ThreadRecord | None = None
        self.thread: threading.Thread = start_daemon(self._work, name)

    def _work(self) -> None:
        self.record = THREAD.record
        take = self._queue.get
        timeout = None if self._expire is None else IDLE_SECONDS
        while True:
            try:
                item = take(timeout=timeout)
            except queue.Empty:
                if self._expire is not None and self._expire(self):
                    return
                continue
            if item is None:
                return
            item.run()
            # While this thread waits for the next one it must not keep this one's arguments.
            del item

    @property
    def runs(self) -> Callable[..., object] | None:
        """The function of the call that this thread runs now, if any."""
        call = None if self.record is None else self.record.call
        return None if call is None else call.function

    @property
    def queued(self) -> int:
        """How many items wait for this thread."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether this is a thread of this process and not of the one it was forked from."""
        return self.epoch == PROCESS.epoch

    def is_current_thread(self) -> bool:
        return self.thread is threading.current_thread()


class WorkerPool:
    """Workers, and which of them are idle. With `one_user`, they all serve the same one."""

    def __init__(self, name: str, *, one_user: bool = False) -> None:
        self._name = name
        self._one_user = one_user
        self._closed = False
        self._numbers = itertools.count(1)
        self._idle: deque[Worker] = deque()
        self._all: set[Worker] = set()

    def take(self, avoid: Worker | None = None) -> Worker:
        """Return an idle worker that is not `avoid`, or a new one.

        Raises RuntimeError where no thread can be started: at interpreter exit.
        """
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = Worker(f"{self._name}-{next(self._numbers)}", self._expire)
                self._all.add(worker)
                return worker
            if not worker.alive:
                self._all.discard(worker)
                continue
            if worker is not avoid:
                return worker
            try:
                return self.take()
            finally:
                self._idle.append(worker)

    def give_back(self, worker: Worker) -> None:
        """Make `worker`, on which nothing is left to do, available to others."""
        if not self._one_user and HANDOVER in worker.thread.__dict__:
            worker.put(_Handover())
        self._idle.append(worker)
        if self._closed:
            self._end_idle()

    def hand_over(self, worker: Worker) -> None:
        """On the thread of `worker`, between two users: clear what the first one left there."""
        if not self._one_user and HANDOVER in worker.thread.__dict__:
            _Handover().run()

    def close(self) -> None:
        """End the threads that are idle, and the others as soon as they are."""
        self._closed = True
        self._end_idle()

    def _end_idle(self) -> None:
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                return
            self._all.discard(worker)
            worker.put(None)

    def _expire(self, worker: Worker) -> bool:
        try:
            self._idle.remove(worker)
        except ValueError:
            return False
        self._all.discard(worker)
        return True

    def workers(self) -> list[Worker]:
        """Return the workers of this process, idle or lent."""
        return [worker for worker in tuple(self._all) if worker.alive]


def wait_for_workers(workers: list[Worker]) -> None:
    """Wait until everything that is queued on `workers` has ended."""
    lasts = [SubmittedCall(int) for _ in workers]
    for worker, last in zip(workers, lasts, strict=True):
        worker.put(last)
    for worker, last in zip(workers, lasts, strict=True):
        # One that was idle may have ended just before, and looks into its queue no more.
        while worker.thread.is_alive() and not last.future.done():
            wait([last.future], timeout=0.1)


class SharedWorker(Executor):
    """The one thread of the process for thread-sensitive code that no rule sends elsewhere.

    It is an executor, so code that wants to run something there by itself can. The thread starts
    with the first call and never ends: what it has in `threading.local` must stay.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    def workers(self) -> list[Worker]:
        """Return the worker, if it was started."""
        worker = self._worker
        return [worker] if worker is not None and worker.alive else []

    @property
    def worker(self) -> Worker:
        """The worker; started when there is none yet, or after a fork."""
        worker = self._worker
        if worker is not None and worker.epoch == PROCESS.epoch:
            return worker
        if worker is not None:
            # The lock may have been held by a thread that the fork did not copy.
            self._lock = threading.Lock()
        with self._lock:
            if self._worker is None or not self._worker.alive:
                self._worker = Worker(self._name)
            return self._worker

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the shared thread; return its future."""
        call = SubmittedCall(lambda: fn(*args, **kwargs))
        self.worker.put(call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the thread belongs to the process and serves whoever comes next."""
