"""Waits that can be shown never to end, turned into errors.

Seen in practice: synchronous code on the shared thread starts a thread of its own, runs
`asyncio.run` there and joins it, and that coroutine calls thread-sensitive code. Its call is queued
on the shared thread, which waits in `Thread.join` for the thread of that very loop. Nothing in the
context of the call shows this (a new thread has an empty one); the stack of the shared thread does.

So when a call is queued on a worker that is busy, its loop looks after a while, and again as long
as such calls are queued, whether the worker's thread stands in a `Thread.join` without a time-out
that leads, over any number of joins, to the loop's own thread. Then the call fails. No other reason
to wait proves anything: an event may be set, a lock released, a future completed by anyone.
(asgiref 3.13 keeps a flag in the context instead, which also stays set where nothing is occupied
any more.)

The look costs nothing while the worker is idle, and one timer for all calls of a loop otherwise.
"""

import asyncio
import threading
import types
import weakref

from ._calls import Call, CallState
from ._markers import describe
from ._threads import THREAD, stacks_of_threads
from ._workers import Worker

__all__ = ["QueueWatch", "stop_watching", "watch"]

#: Seconds until a loop looks what a busy worker does.
_LOOK_AFTER = 0.2


class QueueWatch:
    """The calls of one loop that were queued on busy workers. Only the loop's thread uses it.

    Only the loop holds it, by the timer, so that a loop that is closed takes it along. It does not
    hold the calls: what they were given must not live on until the next look.
    """

    __slots__ = ("__weakref__", "_loop", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[weakref.ref[Call], Worker]] = []
        self._timer = loop.call_later(_LOOK_AFTER, self._look)

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop is loop and not self._timer.cancelled()

    def add(self, call: Call, worker: Worker) -> None:
        self._waiting.append((weakref.ref(call), worker))

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        here = threading.current_thread()
        for worker in {worker for _, worker in self._waiting}:
            queued = self._queued_on(worker)
            if queued and _waits_for(worker.thread, here):
                _fail(queued, worker, here)
        self._waiting = [item for item in self._waiting if _is_queued(item[0]())]
        if self._waiting:
            self._timer = self._loop.call_later(_LOOK_AFTER, self._look)
        else:
            self._timer.cancel()

    def _queued_on(self, worker: Worker) -> list[Call]:
        calls = [reference() for reference, queued_on in self._waiting if queued_on is worker]
        return [call for call in calls if call is not None and _is_queued(call)]


def _is_queued(call: Call | None) -> bool:
    return call is not None and call.state is CallState.QUEUED


def _fail(calls: list[Call], worker: Worker, here: threading.Thread) -> None:
    occupant = "a call" if worker.runs is None else describe(worker.runs)
    for call in calls:
        name = describe(call.function)
        message = (
            f"{name} would deadlock: it must run on thread {worker.thread.name}, where {occupant} "
            f"waits in Thread.join for thread {here.name}, whose event loop waits for {name}"
        )
        call.fail(RuntimeError(message))


def watch(call: Call, worker: Worker) -> None:
    """Look later whether `call`, about to be queued on `worker` which is busy, can ever run."""
    thread = THREAD.record
    current = None if thread.queue_watch is None else thread.queue_watch()
    if current is None or not current.belongs_to(call.loop):
        current = QueueWatch(call.loop)
        thread.queue_watch = weakref.ref(current)
    current.add(call, worker)


def stop_watching() -> None:
    """Stop the timer of the loop of this thread, which has no tasks any more."""
    thread = THREAD.record
    current = None if thread.queue_watch is None else thread.queue_watch()
    thread.queue_watch = None
    if current is not None:
        current.stop()


def _waits_for(thread: threading.Thread, target: threading.Thread) -> bool:
    """Whether `thread` stands in joins that end only when `target` ends."""
    stacks = stacks_of_threads()
    seen: set[threading.Thread] = set()
    joined: threading.Thread | None = thread
    while joined is not None and joined not in seen:
        seen.add(joined)
        stack = None if joined.ident is None else stacks.get(joined.ident)
        joined = None if stack is None else _joined_thread(stack)
        if joined is target:
            return True
    return False


def _joined_thread(stack: types.FrameType) -> threading.Thread | None:
    """Return the thread that the code on top of `stack` joins without a time-out."""
    frame: types.FrameType | None = stack
    while frame is not None and frame.f_globals.get("__name__") == "threading":
        if frame.f_code is threading.Thread.join.__code__:
            joined = frame.f_locals.get("self")
            if frame.f_locals.get("timeout") is None and isinstance(joined, threading.Thread):
                return joined
            return None
        frame = frame.f_back
    return None
