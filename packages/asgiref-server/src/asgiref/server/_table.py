"""The instances of one server: start, eviction, idle timeout and succession.

    server    an unknown scope      a message that no instance reads
    IDLE      starts an instance    starts an instance (a subclass has its own main loop)
    RUNNING   starts an instance    starts an instance
    CLOSING   gets a queue only     goes to application_undelivered
    CLOSED    gets a queue only     likewise, unless the server restarts in the same turn

1. Only `remove`, `leave` and `_settle` change an instance's state. When a live instance's
   application ends, the instance leaves the table in its last step; `_settle` reports it later.
2. Every message is received once or reported undelivered once. If an instance returns or fails and
   leaves messages, the next instance gets them; if that one receives none, they are undelivered. So
   a queue without a live instance is empty.
3. User code never sees a half-finished change: overridden methods run before an instance starts;
   applications and hooks run in their own tasks.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import enum
import time
from collections import OrderedDict, UserDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from asgiref.compatibility import guarantee_single_callable

from ._hooks import HookCalls, is_reporting
from ._instance import (
    CANCELLED,
    ENDED,
    LIVE,
    ApplicationInstance,
    Channel,
    InstanceState,
    MessageSource,
    SourcedChannel,
    adopted,
    run_application,
)
from ._loop import is_loop_running, logger, run_for_thread, safe_repr, start_task
from ._queue import InputQueue

_R = TypeVar("_R")

#: The interval, in seconds, at which a waiting thread checks whether the loop ended without running
#: its call.
_CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A server's options that are not attributes, since subclasses may use the same names."""

    idle_timeout: float | None = None
    queue_size: int = 0
    shutdown_timeout: float = 1.0
    lifespan: bool = False
    reconnect: Any = None
    source: MessageSource | None = None


class ServerState(enum.Enum):
    IDLE = "idle"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


class InstanceTable(UserDict[Hashable, ApplicationInstance]):
    """The live instances by scope id, least recently used first.

    asgiref uses a dict. This class behaves like one, with records as its values. Removing an
    instance cancels it.
    """

    def __init__(self, instances: "Instances") -> None:
        self.data: dict[Hashable, ApplicationInstance] = instances.order
        self._instances = instances

    def __setitem__(self, scope_id: Hashable, details: Any) -> None:
        self._instances.adopt(scope_id, details)

    def __delitem__(self, scope_id: Hashable) -> None:
        self._instances.remove(self[scope_id])
        self.data.pop(scope_id, None)  # an entry under a second id outlives its instance

    def __iter__(self) -> Iterator[Hashable]:
        # Servers put a message for every entry, and each put moves the entry to the end.
        return (scope_id for scope_id in [*self.data] if scope_id in self.data)

    def clear(self) -> None:
        for scope_id in self:
            del self[scope_id]

    def copy(self) -> Any:
        return dict(self.data)


class Instances:
    """All application instances of one server.

    Attributes:
        table: the live instances, for users.
        last_used_assigned: whether user code sets the time that decides which instance is
            evicted.
        order: the same instances, not in a plain dict: to find its first entry, a dict steps over
            every entry that was deleted before it.
        unfinished: the records whose task has not ended, live or cancelled, by task.
        abandoned: tasks that ignore their cancellation.
        settings: the options.
        state: the state of the server.
        loop: the event loop that the server uses.
        thread_id: the identifier of the thread that runs it.
        lifespan_state: copied into each scope, if the application's lifespan has a state.
        on_contact: called when a scope is looked up; set while a connection is awaited.
    """

    def __init__(self, server: Any) -> None:
        self._server = server  # the `StatelessServer`; that class imports this module
        self._dormant: WeakValueDictionary[Hashable, InputQueue] = WeakValueDictionary()
        # All done-callbacks share one context; otherwise each of up to 50,000 scopes would have a
        # copy.
        self._context = contextvars.copy_context()
        self._on_end = self._settle  # likewise, one bound method for all
        self.order: OrderedDict[Hashable, ApplicationInstance] = OrderedDict()
        self.table: InstanceTable = InstanceTable(self)
        self.unfinished: dict[asyncio.Future[Any], ApplicationInstance] = {}
        self.abandoned: set[asyncio.Future[Any]] = set()
        self.last_used_assigned = False
        self.settings: ServerSettings = ServerSettings()
        self.state: ServerState = ServerState.IDLE
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread_id: int = 0
        self.lifespan_state: Mapping[str, Any] | None = None
        self.on_contact: Callable[[], object] | None = None
        self.hooks: HookCalls = HookCalls()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy only the settings: multiprocessing pickles a server whose ``run`` is its target."""
        return Instances, (self._server,), {"settings": self.settings}

    # Looking up and starting

    def get_or_create_application_instance(
        self, scope_id: Hashable, scope: object
    ) -> "asyncio.Queue[Any]":
        """Return the input queue of a scope, and start an instance if none is live."""
        if self.thread_id != get_ident() and self.is_elsewhere():
            # Not the server's method: an override of it may be the caller.
            return self.call(self.get_or_create_application_instance, scope_id, scope)
        # An instance that looks up another scope says nothing about the connection.
        if self.on_contact is not None and asyncio.current_task() not in self.unfinished:
            self.on_contact()
        instance = self.order.get(scope_id)
        if instance is None:
            if not self._starts():
                return self._queue_only(scope_id, scope)
            self._start(scope_id, scope)
            instance = self.order[scope_id]
        else:
            self.order.move_to_end(scope_id)
        return instance.input_queue

    def is_elsewhere(self) -> bool:
        """Whether another thread is running the server's event loop."""
        if self.loop is not None and self.loop.is_closed() and is_loop_running():
            self.use_running_loop()  # the subclass has its own main loop
        return self.loop is not None and self.thread_id != get_ident()

    def call(self, function: Callable[..., _R], *args: object) -> _R:
        """Run ``function(*args)`` on the server's event loop, and return its result.

        Raises:
            RuntimeError: if the server has ended.
        """
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        outcome: Future[_R] = Future()
        ended = self.state is ServerState.CLOSED or loop.is_closed()
        if not ended:
            loop.call_soon_threadsafe(run_for_thread, outcome, function, *args)
        while not (ended or wait([outcome], _CHECK_SECONDS).done):
            is_lost = self.state is ServerState.CLOSED or not loop.is_running()
            ended = is_lost and outcome.cancel()
        if ended:
            text = f"{function.__name__} was called from another thread."
            raise RuntimeError(f"{type(self._server).__name__} has ended: {text}")
        try:
            return outcome.result()
        finally:
            del outcome  # otherwise the exception's traceback and this frame form a cycle

    def use_running_loop(self) -> asyncio.AbstractEventLoop:
        """Use the loop that runs on this thread; forget the instances on another loop."""
        self.loop, self.thread_id = asyncio.get_running_loop(), get_ident()
        self._forget(lambda task: task.get_loop() is not self.loop)
        return self.loop

    def _starts(self) -> bool:
        return self.state is ServerState.RUNNING or self.state is ServerState.IDLE

    def _start(self, scope_id: Hashable, scope: object, redelivery: bool = False) -> None:
        check_application(self._server.application)
        application = guarantee_single_callable(self._server.application)
        self._make_room()
        if scope_id in self.order:  # an overridden method may have started an instance meanwhile
            return
        if self.loop is None or self.loop.is_closed():
            self.use_running_loop()
        queue = self._queue_only(scope_id, scope)
        queue.scope = scope
        scope, source = _with_state(scope, self.lifespan_state), self.settings.source
        make = Channel if source is None else partial(SourcedChannel, source=source)
        channel = make(queue, scope, self._server)
        future = start_task(run_application, application, channel)
        instance = ApplicationInstance(scope_id, scope, queue, future, channel, self, redelivery)
        if isinstance(channel, SourcedChannel):
            channel.instance = instance
        self._insert(scope_id, instance)
        queue.live = future
        if self.settings.idle_timeout is not None:
            self._check_idle(instance)

    def _make_room(self) -> None:
        while self.order and (before := len(self.order)) >= self._server.max_applications:
            self._server.delete_oldest_application_instance()
            if len(self.order) >= before:
                return  # an overridden method kept it, or started another

    def _queue_only(self, scope_id: Hashable, scope: object) -> InputQueue:
        """Return the queue of a scope without a live instance; reuse it if it still exists."""
        queue = self._dormant.get(scope_id)
        if queue is None:
            queue = InputQueue(self.settings.queue_size, scope_id, scope, self)
            if not self._starts():
                self._dormant[scope_id] = queue
        return queue

    def adopt(self, scope_id: Hashable, details: object) -> None:
        """Add an instance to the table, replacing another one for the same scope."""
        instance = adopted(scope_id, details, self)
        old = self.order.get(scope_id)
        if old is not None and old is not instance and old.future is instance.future:
            # The subclass has changed a copy of the entry.
            old["last_used"], old.extra = instance.last_used, instance.extra
            instance = old
        if instance is old:
            return self.order.move_to_end(scope_id)
        self._insert(scope_id, instance)
        if old is not None:
            self.remove(old)

    def _insert(self, scope_id: Hashable, instance: ApplicationInstance) -> None:
        self.unfinished[instance.future] = instance
        instance.future.add_done_callback(self._on_end, context=self._context)
        try:
            self.order[scope_id] = instance
            self.order.move_to_end(scope_id)
        except BaseException:  # from a method of the scope id
            self.remove(instance)
            raise

    def replace(self, entries: Mapping[Hashable, Any]) -> None:
        """Replace the table's contents with these entries, in the given order."""
        for instance in self.records():
            if not any(each is instance for each in entries.values()):
                self.remove(instance)
        self.table.update(entries)

    # Messages

    def start_for(self, queue: InputQueue, message: object) -> bool:
        """Start an instance that reads ``message``; False if the queue must not take it."""
        if self._starts():
            self._start(queue.scope_id, queue.scope)
        if queue.live is None:
            self._refuse(queue, message)
        return queue.live is not None

    def _refuse(self, queue: InputQueue, message: object, again: bool = False) -> None:
        """Report a message that arrives while no instance may start."""
        if is_reporting():
            text = "Dropped a message for scope %s that came back from application_undelivered"
            logger.warning(text, safe_repr(queue.scope_id))
        elif again and self._starts() and not queue.full():
            queue.put_nowait(message)
        elif self.state is ServerState.CLOSED and not again:  # arun() may have been called again
            asyncio.get_running_loop().call_soon(self._refuse, queue, message, True)
        else:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            channel = Channel(queue, queue.scope, None, ENDED)
            none = ApplicationInstance(queue.scope_id, queue.scope, queue, future, channel, self)
            self._hook("application_undelivered", none, [message], none)

    # Ending

    def remove(self, instance: ApplicationInstance) -> None:
        """Take an instance out of the table, if it is live, and cancel it."""
        if instance.state is LIVE:
            self._release(instance, CANCELLED)
            self._give_up(instance)
        if not instance.future.get_loop().is_closed():
            instance.future.cancel()

    def leave(self, task: "asyncio.Future[Any]") -> None:
        """End a live instance whose application has returned or raised."""
        instance = self.unfinished.get(task)
        if instance is not None and instance.state is LIVE:
            self._release(instance, ENDED)

    def _settle(self, task: "asyncio.Future[Any]") -> None:
        """React to the end of an instance's task."""
        self.leave(task)  # no effect if it already left in its own last step
        instance = self.unfinished.pop(task, None)
        if instance is not None:
            instance.channel.state = ENDED
            if not task.cancelled() and (failure := task.exception()) is not None:
                self._hook("application_exception", instance, failure, instance)
            if isinstance(channel := instance.channel, SourcedChannel):
                call = partial(self.hooks.call, instance, channel.source)
                # Two calls, because each has its own time limit.
                call("acknowledge", channel.acknowledge_last)
                call("instance_ended", channel.instance_ended)
            if not instance.input_queue.empty():
                self._pass_on(instance)

    def _release(self, instance: ApplicationInstance, state: InstanceState) -> None:
        """Remove an instance from the table, and free the scope's queue for the next instance."""
        instance.channel.state = state
        if instance.idle_timer is not None:
            instance.idle_timer.cancel()
            instance.idle_timer = None
        queue = instance.input_queue
        try:
            if isinstance(queue, InputQueue) and queue.live is instance.future:
                queue.live = None
                instance.channel.release()
                self._dormant[queue.scope_id] = queue
            if self.order.get(instance.scope_id) is instance:
                del self.order[instance.scope_id]
        except Exception:
            logger.debug("A scope id cannot be compared: %s", safe_repr(instance.scope_id))
            others = [each for each in self.records() if each is not instance]
            self.order.clear()
            for each in others:
                with contextlib.suppress(Exception):  # one that cannot be inserted keeps running
                    self.order[each.scope_id] = each

    def oldest(self) -> Hashable:
        """Return the scope id of the least recently used instance; there must be one."""
        if self.last_used_assigned:
            return min(self.records(), key=lambda each: each.channel.active_at).scope_id
        return next(iter(self.order))

    def records(self) -> list[ApplicationInstance]:
        """The live instances. (Views of an OrderedDict hash the scope ids, which may raise.)"""
        return list(dict[Hashable, ApplicationInstance].values(self.order))

    def _pass_on(self, instance: ApplicationInstance) -> None:
        """Start the next instance for the remaining messages, or report them undelivered."""
        queue = instance.input_queue
        if isinstance(queue, InputQueue) and queue.live is None and self._starts():
            in_vain = instance.redelivery and not instance.channel.received
            try:
                if not (in_vain or instance.future.cancelled()):
                    self._start(instance.scope_id, queue.scope, redelivery=True)
            except BaseException as error:  # an overridden method raised it
                logger.exception("No application can be started for %r", instance)
                if not isinstance(error, Exception):
                    self.hooks.on_fatal(error)
        if not isinstance(queue, InputQueue) or queue.live is None:
            self._give_up(instance)

    def _give_up(self, instance: ApplicationInstance) -> None:
        queue = instance.input_queue
        if messages := [queue.get_nowait() for _ in range(queue.qsize())]:
            self._hook("application_undelivered", instance, messages, instance)

    def _hook(self, name: str, instance: ApplicationInstance, *args: object) -> None:
        self.hooks.call(instance, self._server, name, lambda: getattr(self._server, name)(*args))

    # Idle time

    def _check_idle(self, instance: ApplicationInstance) -> None:
        """Start the instance's timer, or end the instance.

        A message only updates the time; it does not restart the timer.
        """
        channel = instance.channel
        limit = left = cast(float, self.settings.idle_timeout)
        if not channel.sending and channel.queue.empty():
            left = channel.active_at + limit - time.monotonic()
        # Check again even if it is idle, in case an overridden method keeps it.
        loop, delay = asyncio.get_running_loop(), left if left > 0 else limit
        # The current context may belong to a hook, which `is_failed` treats specially.
        instance.idle_timer = loop.call_later(
            delay, self._check_idle, instance, context=self._context
        )
        if left <= 0:
            try:
                self._server.delete_application_instance(instance.scope_id)
            except Exception:
                logger.exception("%r is idle, but cannot be deleted by its id", instance)
                self.remove(instance)

    # Closing

    def is_running(self) -> bool:
        """Whether ``arun`` is running. False if the loop was closed before ``arun`` finished."""
        runs = self.state in (ServerState.RUNNING, ServerState.CLOSING)
        return runs and self.loop is not None and not self.loop.is_closed()

    def is_drained(self) -> bool:
        """Whether all remaining instances are waiting for a message and none is queued."""
        left = self.unfinished.values()
        drained = all(each.state is LIVE and each.channel.is_drained() for each in left)
        return drained and not self.hooks.tasks

    def cancel(self, task: "asyncio.Future[Any]") -> None:
        """Cancel a task of an instance, a hook or the server, possibly not for the first time."""
        if (instance := self.unfinished.get(task)) is not None:
            self.remove(instance)
        elif task not in self.hooks.unstarted:
            task.cancel()

    def pending(self) -> "list[asyncio.Future[Any]]":
        """The tasks of instances and hooks that have not ended."""
        return [*self.unfinished, *self.hooks.tasks.values()]

    def abandon(self, task: "asyncio.Future[Any]") -> None:
        """Forget a task (of an instance, a hook or the server) that ignores its cancellation.

        It stays on the event loop. One reference is leaked on purpose: destroying the coroutine
        would raise GeneratorExit in it, and code that ignores this as well would run forever.
        """
        name = self.unfinished.get(task, task)
        logger.error("%r ignores its cancellation, and is abandoned", name)
        self._forget(lambda each: each is task)
        self.abandoned.add(task)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))

    def _forget(self, is_lost: "Callable[[asyncio.Future[Any]], bool]") -> None:
        for task, instance in [*self.unfinished.items()]:
            if is_lost(task):
                self.leave(task)
                del self.unfinished[task]
                instance.channel.state = ENDED
                instance.channel.end_turn()
        for queue, task in [*self.hooks.tasks.items()]:
            if is_lost(task):
                self.hooks.forget(queue, task)


def check_application(value: object) -> None:
    """Raise TypeError unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"A StatelessServer needs an ASGI application, not {safe_repr(value)}.")


def _with_state(scope: object, state: Mapping[str, Any] | None) -> object:
    """Return the scope with a copy of the lifespan's state, unless the server has put one there."""
    if state is None or not isinstance(scope, Mapping) or "state" in scope:
        return scope  # pyright: ignore[reportUnknownVariableType]
    return {**cast("Mapping[str, Any]", scope), "state": dict(state)}
