"""The rules that choose the thread or loop of each call.

The first rule that applies chooses the thread of a function with ``thread_sensitive=True``:

1. A thread of its chain is blocked in `async_to_sync`, waiting for a coroutine of the calling loop:
   that thread, at the innermost such call. `_submit_to_chain` explains why the loop matters.
2. The call is inside a `ThreadSensitiveContext`: that context's thread.
3. A thread is blocked until the calling loop ends: that thread. (Rule 1 reads a context variable,
   which a task started in an empty context lacks.)
4. Otherwise: the one shared thread of the process.

`submit_parallel` chooses for ``thread_sensitive=False``, and `start_on_own_loop` for coroutines.
"""

import asyncio
import threading
import weakref
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import partial
from types import TracebackType
from typing import Any

from ._asyncio_internals import LoopFactory, custom_default_executor, is_loop_running_here
from ._blocking import CURRENT_EXECUTOR, CurrentThreadExecutor
from ._callables import describe
from ._calls import CoroutineCall, FunctionCall
from ._diagnostics import watch_for_deadlock
from ._limits import LimitedExecutor, limiter_of
from ._loop_threads import LOOP_THREADS, ContextLoop, LoopExecutors, TopLevelCall
from ._thread_pool import SingleThreadExecutor, SubmittedCall
from ._thread_state import PROCESS, thread_state

#: Set by code whose own chain occupies the shared thread.
DEADLOCK_CONTEXT: ContextVar[bool] = ContextVar("asgiref.sync.deadlock_context")

SHARED_EXECUTOR = SingleThreadExecutor("asgiref-shared", is_permanent=True)

THREAD_SENSITIVE_CONTEXT: "ContextVar[ThreadSensitiveContext]" = ContextVar(
    "asgiref.sync.thread_sensitive_context"
)
ASYNC_SINGLE_THREAD_CONTEXT: "ContextVar[AsyncSingleThreadContext]" = ContextVar(
    "asgiref.sync.async_single_thread_context"
)

# No lock: each access is one atomic operation of the dictionary.
#: ``SyncToAsync.context_to_thread_executor``: for each context, the executor of its calls.
CONTEXT_EXECUTORS = weakref.WeakKeyDictionary["ThreadSensitiveContext", Executor]()
#: ``AsyncToSync.loop_thread_executors``: for each loop, the executor of calls made in an empty
#: context.
LOOP_EXECUTORS: LoopExecutors = {}
#: ``AsyncToSync.context_to_thread_executor``: for each context, the executor of its coroutines.
LOOP_CONTEXT_EXECUTORS = weakref.WeakKeyDictionary["AsyncSingleThreadContext", Executor]()


# Routing of functions. This code runs on the calling loop's thread.


def submit_sensitive(call: FunctionCall, shared: Executor, loop_executors: LoopExecutors) -> None:
    """Queue `call` according to the rules for thread-sensitive code, in the caller's context.

    Args:
        call: a call from async code.
        shared: the executor for rule 4.
        loop_executors: the executors for rule 3, by loop.

    Raises:
        RuntimeError: the call can never run.
    """
    current = CURRENT_EXECUTOR.get(None)
    if current is not None and _submit_to_chain(current, call):
        return
    context = THREAD_SENSITIVE_CONTEXT.get(None)
    if context is not None:
        context.submit_call(call)
        return
    current = loop_executors.get(call.loop)
    if current is not None and _submit_to_chain(current, call):
        return
    if DEADLOCK_CONTEXT.get(False):
        raise _would_deadlock(call, None)
    _submit_to_thread(call, shared, None)


def _submit_to_chain(executor: Executor, call: FunctionCall) -> bool:
    """Queue `call` on `executor` or an enclosing blocked call. Return False if none accepts it.

    Blocked calls that wait for other loops are skipped. A copied context can expose a blocked call
    to another loop, even to one that runs on the blocked thread and so prevents it from ever
    running `call`.
    """
    if not isinstance(executor, CurrentThreadExecutor):
        _submit_to_foreign(executor, call)
        return True
    blocked: CurrentThreadExecutor | None = executor
    while blocked is not None:
        if blocked.loop is None or blocked.loop is call.loop:
            if blocked.runs_loop_itself:
                call.run_and_deliver()
                return True
            is_busy = blocked.state.runs_unblocked_call
            if blocked.put(call):
                if is_busy:
                    watch_for_deadlock(call, blocked.state.thread)
                return True
        blocked = blocked.parent
    return False


def _submit_to_thread(
    call: FunctionCall, executor: Executor, context: "ThreadSensitiveContext | None"
) -> None:
    """Queue `call` on the one thread of `executor`, which serves `context` or the whole process.

    Raises RuntimeError if the caller occupies that thread.
    """
    if not isinstance(executor, SingleThreadExecutor):
        above = thread_state().call
        if context is None and above is not None and above.foreign_executor is executor:
            raise _would_deadlock(call, context)
        _submit_to_foreign(executor, call)
        return
    worker = executor.worker
    if worker is not None and worker.is_busy:
        state = thread_state()
        if worker.thread is state.thread and state.call is not None:
            raise _would_deadlock(call, context)
        watch_for_deadlock(call, worker.thread)
    if PROCESS.is_exiting:
        call.run_and_deliver()
    else:
        executor.put(call)


def _would_deadlock(call: FunctionCall, context: "ThreadSensitiveContext | None") -> RuntimeError:
    shared = "the shared thread for thread-sensitive code"
    place = shared if context is None else f"the thread of {context!r}"
    return RuntimeError(
        f"{describe(call.function)} would deadlock: it must run on {place}, which is occupied by "
        "the code that waits for it"
    )


def submit_parallel(call: FunctionCall, executor: Executor | None) -> None:
    """Queue `call`, which may run on any thread.

    It runs on `executor` if that is given, else on the executor that the application set as the
    loop's default, else on pooled threads, within the limit of its loop.
    """
    limiter = limiter_of(call.loop)
    if executor is None:
        executor = custom_default_executor(call.loop, limiter.limit)
    if executor is not None and not isinstance(executor, LimitedExecutor):
        _submit_to_foreign(executor, call)
    elif PROCESS.is_exiting:
        call.run_and_deliver()
    elif executor is None:
        limiter.submit(call)
    else:
        executor.submit_call(call)


# Foreign executors. A call that runs in this interpreter delivers its own outcome. The bridge uses
# the future that `submit` returns for two purposes: to take a call out of the executor's queue, and
# to finish a call that never runs here, because the executor dropped it, failed to run it, or sent
# it to another process or interpreter. A call's loop and context cannot be sent there, so pickling
# a call pickles only its function and arguments, and the future returns the outcome.


def _submit_to_foreign(executor: Executor, call: FunctionCall) -> None:
    call.foreign_executor = executor
    future = executor.submit(call)
    if hasattr(future, "cancel"):
        call.future = future
    watch = getattr(future, "add_done_callback", None)
    if watch is not None:
        watch(partial(_settle_unless_started, weakref.ref(call)))


def _settle_unless_started(reference: "weakref.ref[FunctionCall]", future: "Future[Any]") -> None:
    call = reference()
    if call is None or not call.is_queued:
        return
    if future.cancelled():
        call.discard(asyncio.CancelledError("the executor dropped the call"))
    elif (error := future.exception()) is not None:
        call.discard(error)
    else:
        call.set_result(future.result())


# Routing of coroutines. This code runs on the calling thread.


def start_on_own_loop(
    call: CoroutineCall,
    loop_executors: LoopExecutors,
    force_new_loop: bool,
    loop_factory: LoopFactory | None,
) -> bool:
    """Start `call` on the loop of the `AsyncSingleThreadContext`, or else on a separate loop.

    Return False if the caller must try again. Raises RuntimeError if no thread can be started.
    """
    context = None if force_new_loop else ASYNC_SINGLE_THREAD_CONTEXT.get(None)
    if context is not None:
        return context.start(call, loop_executors)
    LOOP_THREADS.submit(TopLevelCall(call, loop_executors, loop_factory))
    return True


def run_inline(
    call: CoroutineCall, loop_executors: LoopExecutors, loop_factory: LoopFactory | None
) -> None:
    """Run `call` on a new loop in this thread: at interpreter exit no other thread can start."""
    call.executor.runs_loop_itself = True
    TopLevelCall(call, loop_executors, loop_factory, keep_loop=False).run_and_deliver()


# The two contexts


class ThreadSensitiveContext:
    """Run the thread-sensitive calls of an ``async with`` block on a separate thread.

    A server enters one for each request, whose synchronous code then runs on one new thread.
    Objects bound to threads (database connections) work, requests do not wait for each other, and
    no request sees another's `threading.local` values.

    Args:
        executor: runs the calls of this block, even inside another context or in code run by
            `async_to_sync`. It must run one call at a time on one thread, for example
            ``ThreadPoolExecutor(max_workers=1)``. The context does not shut it down. Such a context
            can be entered only once. Tasks started inside must finish before the block ends; any
            later call they make raises RuntimeError. Without an executor, a block inside another
            one does nothing.
        reuse_thread: take the thread of an earlier block that has ended, together with everything
            bound to that thread: database connections, `threading.local` values, thread-critical
            values of a `Local`. None means the setting of `reuse_threads`.

    When it exits, the block waits for any function still running after its task was cancelled,
    except with `executor`. If that wait is itself cancelled, the thread exits when the call
    finishes.

    >>> import asyncio, threading
    >>> from asgiref.sync import sync_to_async
    >>> async def request():
    ...     thread = sync_to_async(threading.current_thread)
    ...     async with ThreadSensitiveContext():
    ...         return await thread() is await thread()
    >>> asyncio.run(request())
    True
    """

    #: Whether contexts reuse threads. Assign True to make Django's persistent connections
    #: (``CONN_MAX_AGE``) work under ASGI. All requests on a thread then share everything bound to
    #: it.
    reuse_threads: bool = False
    #: The maximum number of idle threads kept for later contexts; any others exit.
    max_idle_threads: int = 32

    def __init__(
        self, *, executor: Executor | None = None, reuse_thread: bool | None = None
    ) -> None:
        if executor is not None and reuse_thread:
            raise ValueError(
                "reuse_thread cannot be combined with executor, which keeps its own thread"
            )
        self._executor = executor
        self._reuse_thread = reuse_thread
        self.token: Token[ThreadSensitiveContext] | None = None
        self._outer_executor: Executor | None = None
        self._was_entered = self._exited = False
        # The block whose thread this one shares, and the number of blocks that share this one's
        # thread, including itself. Some servers start a connection's next request in the
        # previous request's context. The next block must keep the shared thread when the previous
        # block ends.
        self._joined: ThreadSensitiveContext | None = None
        self._sharing = 0
        self._lock = threading.Lock()

    async def __aenter__(self) -> "ThreadSensitiveContext":
        if self._executor is not None:
            self._enter_with_executor(self._executor)
            return self
        outer = THREAD_SENSITIVE_CONTEXT.get(None)
        if outer is not None and (outer._executor is not None or not outer._was_entered):
            return self  # application code set the outer context without entering it
        if outer is not None and outer._join():
            self._joined = outer
        else:
            self.token = THREAD_SENSITIVE_CONTEXT.set(self)
            self._was_entered = True
            with self._lock:
                self._sharing += 1
        return self

    def _enter_with_executor(self, executor: Executor) -> None:
        if self.token is not None:
            raise RuntimeError(f"{self!r} is already entered: create one context for each block")
        if self._exited:
            raise RuntimeError(
                f"{self!r} has an executor and cannot be entered again: tasks that outlived its "
                "first block would end up in the second"
            )
        self.token = THREAD_SENSITIVE_CONTEXT.set(self)
        CONTEXT_EXECUTORS[self] = executor
        # Hide the enclosing blocked call: rule 1 would choose it before this context.
        self._outer_executor = CURRENT_EXECUTOR.get(None)
        CURRENT_EXECUTOR.set(None)

    def _join(self) -> bool:
        """Share the thread until `_leave`. Return False if all blocks that shared it have ended."""
        with self._lock:
            if self._sharing:
                self._sharing += 1
            return self._sharing > 0

    async def _leave(self, *, waits: bool) -> None:
        """Stop sharing the thread. The last block releases it."""
        with self._lock:
            self._sharing -= 1
            executor = None if self._sharing else CONTEXT_EXECUTORS.pop(self, None)
        if isinstance(executor, SingleThreadExecutor):
            await self._release(executor, waits)
        elif isinstance(executor, Executor):
            # The application put it into the mapping, which made the context its owner.
            executor.shutdown(wait=False)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._joined is not None:
            joined, self._joined = self._joined, None
            # The thread may be running a function that waits for this block to end.
            await joined._leave(waits=False)
        elif self.token is not None:
            token, self.token = self.token, None
            is_reset = False
            try:
                # Raises ValueError if the block ends in another context.
                THREAD_SENSITIVE_CONTEXT.reset(token)
                is_reset = True
            finally:
                if self._executor is None:
                    # In another context, the thread may be running a function that waits for this
                    # block to end.
                    await self._leave(waits=is_reset)
                else:
                    self._exited = True
                    CONTEXT_EXECUTORS.pop(self, None)
                    CURRENT_EXECUTOR.set(self._outer_executor)
                    self._outer_executor = None

    def submit_call(self, call: FunctionCall) -> None:
        """Queue a call from the bridge on the thread of this context.

        Args:
            call: a call from async code inside the block.

        Raises:
            RuntimeError: the code that waits for the call occupies the thread, or the block has an
                executor and has ended.
        """
        executor = CONTEXT_EXECUTORS.get(self) or self._new_executor()
        _submit_to_thread(call, executor, self)

    def _new_executor(self) -> Executor:
        if self._exited:
            raise RuntimeError(
                f"{self!r} has exited: tasks started inside a context with an executor must finish "
                "before it does"
            )
        with self._lock:
            # Two loops can get here at once: a copied context exposes this object to another loop.
            executor = CONTEXT_EXECUTORS.get(self)
            if executor is None:
                is_reusing = self._reuses_thread and self._sharing > 0
                executor = _take_idle_executor() if is_reusing else None
                executor = executor or SingleThreadExecutor("asgiref-context")
                CONTEXT_EXECUTORS[self] = executor
            return executor

    @property
    def _reuses_thread(self) -> bool:
        return self.reuse_threads if self._reuse_thread is None else self._reuse_thread

    async def _release(self, executor: SingleThreadExecutor, waits: bool) -> None:
        """Keep or end the thread of `executor`. If `waits`, wait until its calls have finished."""
        last: SubmittedCall | None = None
        worker = executor.worker
        is_kept = self._reuses_thread and worker is not None
        if worker is not None and worker.is_busy:
            is_kept = is_kept and waits
            last = SubmittedCall(int) if waits else None
            if last is not None and not worker.put(last):
                last = None
        try:
            if not is_kept:
                executor.shutdown(wait=False)
            if last is not None:
                # Shield the wait: the thread exits even if this task is cancelled.
                await asyncio.shield(asyncio.wrap_future(last.future))
        except BaseException:
            executor.shutdown(wait=False)
            raise
        if is_kept and len(_idle_executors) < self.max_idle_threads:
            _idle_executors.append(executor)
        else:
            executor.shutdown(wait=False)


# Threads kept for later contexts. No lock: each access is one atomic operation of the list.
_idle_executors: list[SingleThreadExecutor] = []


def _take_idle_executor() -> SingleThreadExecutor | None:
    while _idle_executors:
        try:
            executor = _idle_executors.pop()
        except IndexError:  # another thread took the last one
            return None
        if executor.worker is not None:  # it is None after a fork
            return executor
    return None


class AsyncSingleThreadContext:
    """Run all top-level `async_to_sync` calls of a ``with`` block on one thread and one loop.

    The loop runs from the first call until the block ends. Then its tasks are cancelled and
    awaited, and the loop is closed. A block inside another one does nothing, even if both use the
    same object. As usual, calls made in a function that `sync_to_async` runs use the calling loop,
    and ``force_new_loop=True`` uses a separate loop.

    >>> import threading
    >>> from asgiref.sync import async_to_sync
    >>> async def thread():
    ...     return threading.current_thread()
    >>> with AsyncSingleThreadContext():
    ...     async_to_sync(thread)() is async_to_sync(thread)()
    True
    """

    def __init__(self) -> None:
        self.token: Token[AsyncSingleThreadContext] | None = None
        # One token for each block of this object that has not ended, on any thread.
        self._tokens: list[Token[AsyncSingleThreadContext]] = []
        self._pid = PROCESS.pid
        self._lock = threading.Lock()

    def __enter__(self) -> "AsyncSingleThreadContext":
        active = ASYNC_SINGLE_THREAD_CONTEXT.get(None)
        if active is None or active is self:
            self.token = ASYNC_SINGLE_THREAD_CONTEXT.set(self)
            self._tokens.append(self.token)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if ASYNC_SINGLE_THREAD_CONTEXT.get(self) is not self or not self._tokens:
            return  # the block is inside another context's, and did nothing on entry
        try:
            self._reset()
        finally:
            self.token = self._tokens[-1] if self._tokens else None
            if not self._tokens:
                self.end()

    def _reset(self) -> None:
        """Reset the current context's newest token; if it has none, drop the newest of all."""
        for token in reversed(self._tokens):
            with suppress(ValueError):
                ASYNC_SINGLE_THREAD_CONTEXT.reset(token)
                self._tokens.remove(token)
                return
        self._tokens.pop()

    def start(self, call: CoroutineCall, loop_executors: LoopExecutors) -> bool:
        """Start a call from the bridge on the loop of this block.

        Args:
            call: a call that the current thread makes to a coroutine function.
            loop_executors: the mapping in which to record the blocked thread during the call.

        Returns:
            False if the loop has just stopped. Another attempt starts a new one.
        """
        if self._pid != PROCESS.pid:
            # A thread that the fork did not copy may have held the lock.
            self._pid, self._lock = PROCESS.pid, threading.Lock()
        with self._lock:
            executor = LOOP_CONTEXT_EXECUTORS.get(self)
            if executor is None or (isinstance(executor, ContextLoop) and not executor.is_usable):
                executor = self._new_loop(loop_executors)
        if isinstance(executor, ContextLoop):
            return executor.start(call)
        executor.submit(TopLevelCall(call, loop_executors, keep_loop=False).run_and_deliver)
        return True

    def _new_loop(self, loop_executors: LoopExecutors) -> ContextLoop:
        context_loop = ContextLoop(loop_executors)
        try:
            LOOP_THREADS.submit(context_loop)
            LOOP_CONTEXT_EXECUTORS[self] = context_loop
            # If the block never ends (in an abandoned generator), the loop ends with this object.
            weakref.finalize(self, context_loop.abandon).atexit = False
        except BaseException:
            context_loop.abandon()
            raise
        return context_loop

    def end(self) -> None:
        """Stop the loop, if there is one, and wait until it has shut down."""
        PROCESS.refresh()
        context_loop = LOOP_CONTEXT_EXECUTORS.pop(self, None)
        if isinstance(context_loop, Executor) and not isinstance(context_loop, ContextLoop):
            # The application put it into the mapping, which made the context its owner.
            context_loop.shutdown()
        if not isinstance(context_loop, ContextLoop) or not context_loop.is_usable:
            return
        if is_loop_running_here():
            # A loop's thread must not block here. (The garbage collector can end a block on one.)
            context_loop.abandon()
            return
        leaver = CurrentThreadExecutor()
        try:
            context_loop.end(leaver)
            leaver.serve(lambda: True)
        finally:
            leaver.close()
