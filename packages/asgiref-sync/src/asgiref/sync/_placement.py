"""On which thread a synchronous function runs.

With ``thread_sensitive=True``, the first of these that applies:

1. A sync frame of the same chain waits in `async_to_sync`: on that frame's thread, by the nearest
   frame that still waits. A frame counts only for calls from the loop that runs its coroutine: a
   copied context can carry it into a loop of which its thread knows nothing, even a loop that runs
   on that very thread and keeps it from ever looking.
2. Inside a `ThreadSensitiveContext`: on that context's thread.
3. The loop was made for a sync frame: on that frame's thread. (A task that was started in an empty
   context shows no frame to rule 1.)
4. On the one shared thread of the process.

With ``thread_sensitive=False``: on the executor given, else on the one that the application set as
the loop's default, else on pooled workers, so many at a time for each loop.

All of this happens on the loop's thread and in the caller's context, except when a call came too
late for a frame: then it is placed anew, in the snapshot of its caller's context, by whoever
noticed.
"""

import asyncio
from contextvars import ContextVar

from ._calls import Call
from ._deadlocks import watch
from ._foreign import Submitter, submit_to
from ._frames import CURRENT_EXECUTOR, CurrentThreadExecutor
from ._markers import describe
from ._places import PLACES
from ._thread_contexts import THREAD_SENSITIVE_CONTEXT
from ._threads import THREAD, ThreadRecord
from ._worker_threads import WorkerThreads

__all__ = ["DEADLOCK_CONTEXT", "place_parallel", "place_sensitive"]

#: Code that sets this declares that its own chain occupies the shared thread.
DEADLOCK_CONTEXT: ContextVar[bool] = ContextVar("asgiref.sync.deadlock_context")


def place_sensitive(call: Call, thread: ThreadRecord, shared: Submitter) -> None:
    """Queue `call` by the rules for thread-sensitive code.

    `thread` is the calling one, which runs the loop; `shared` is the place of rule 4.
    """
    current = CURRENT_EXECUTOR.get(None)
    if current is not None:
        if not isinstance(current, CurrentThreadExecutor):
            submit_to(current, call)
            return
        frame = _waiting_frame(current, call.loop)
        if frame is not None:
            _put_to_frame(frame, call, shared)
            return
    context = THREAD_SENSITIVE_CONTEXT.get(None)
    if context is not None:
        context.put(call, thread)
        return
    if thread.loop_frame is not None:
        frame = _waiting_frame(thread.loop_frame, call.loop)
        if frame is not None:
            _put_to_frame(frame, call, shared)
            return
    _put_to_shared(call, thread, shared)


def _waiting_frame(
    frame: CurrentThreadExecutor | None, loop: asyncio.AbstractEventLoop
) -> CurrentThreadExecutor | None:
    """Return the nearest frame that waits for a coroutine of `loop`."""
    while frame is not None and not (frame.open and frame.loop is loop):
        frame = frame.parent
    return frame


def _put_to_frame(frame: CurrentThreadExecutor, call: Call, shared: Submitter) -> None:
    if frame.inline:
        call.run()
        return
    for late in frame.put(call):
        # The frame is closed now, and the rules lead on.
        late.frame = None
        late.before.copy().run(place_sensitive, late, THREAD.record, shared)


def _put_to_shared(call: Call, thread: ThreadRecord, shared: Submitter) -> None:
    if DEADLOCK_CONTEXT.get(False):
        raise _would_deadlock(call)
    if shared is not PLACES.shared:
        submit_to(shared, call)
        return
    worker = PLACES.shared.worker
    if thread.call is not None and worker.is_current_thread():
        raise _would_deadlock(call)
    if worker.record is not None and worker.record.call is not None:
        watch(call, worker)
    worker.put(call)


def _would_deadlock(call: Call) -> RuntimeError:
    return RuntimeError(
        f"{describe(call.function)} would deadlock: it must run on the shared thread for "
        "thread-sensitive code, which is occupied by the code that waits for it"
    )


def place_parallel(call: Call, executor: Submitter | None) -> None:
    """Queue `call` on `executor`, or on one of the pooled workers if that is None."""
    if executor is None:
        executor = _default_executor(call.loop)
    if executor is None:
        (call.inbox.parallel or PLACES.parallel_of(call.inbox)).put(call)
    elif isinstance(executor, WorkerThreads):
        executor.put(call)
    else:
        submit_to(executor, call)


def _default_executor(loop: asyncio.AbstractEventLoop) -> Submitter | None:
    """Return the executor that the application set with `loop.set_default_executor`, if any.

    The one that asyncio makes for itself at the first `asyncio.to_thread` does not count. It is
    known by the name that asyncio gives to its threads; other loops do not show their executor.
    """
    executor: Submitter | None = getattr(loop, "_default_executor", None)
    if executor is None or getattr(executor, "_thread_name_prefix", None) == "asyncio":
        return None
    return executor
