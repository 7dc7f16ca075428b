"""The instances of one server: started, evicted, ended when idle, followed by the next one.

    server    an unknown scope      a message that no instance reads
    IDLE      starts an instance    starts an instance (a subclass has its own main loop)
    RUNNING   starts an instance    starts an instance
    CLOSING   gets a queue only     goes to application_undelivered
    CLOSED    gets a queue only     likewise, unless the server runs again in the same turn

1. The end of an instance is a done-callback of its task; a put or a look-up that comes first
   settles it. Settling happens once per record. A failure is reported once; a cancellation is none.
2. Every message is received once or reported undelivered once. An instance that returns or fails
   and leaves messages is followed by one that gets them; if that one receives none, they are
   undelivered.
3. Code of users runs only where nothing is half changed: overridden methods before an instance is
   started, applications and hooks in tasks of their own.
"""

import asyncio
import contextvars
import enum
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast
from weakref import WeakValueDictionary

from asgiref.compatibility import SingleCallable, guarantee_single_callable

from ._hooks import HookCalls, is_reporting, safe_repr
from ._instance import (
    ApplicationInstance,
    Channel,
    InstanceState,
    MessageSource,
    SourcedChannel,
    adopted,
    run_application,
)
from ._loop import LoopThread, detach, start_task
from ._queue import InputQueue, drained

logger = logging.getLogger("asgiref.server")

LIVE, CANCELLED, ENDED = InstanceState.LIVE, InstanceState.CANCELLED, InstanceState.ENDED


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a server that are not attributes: subclasses have names of their own."""

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


class Server(Protocol):
    """The server, as far as its instances need it; read at each use, so that it may change."""

    application: Any
    max_applications: int

    def delete_oldest_application_instance(self) -> None: ...
    def delete_application_instance(self, scope_id: Hashable) -> None: ...
    def application_send(self, scope: Any, message: Any) -> Any: ...


class InstanceTable(OrderedDict[Hashable, ApplicationInstance]):
    """The live instances by scope id, the least recently used first.

    A dict, as in asgiref, with records as its values. An instance that leaves it is cancelled, by
    whichever method of a dict. (A plain dict is ordered too, but finding its first entry steps over
    every entry that was deleted in front of it.)
    """

    def __init__(
        self,
        added: Callable[[ApplicationInstance], None],
        removed: Callable[[ApplicationInstance], None],
    ) -> None:
        super().__init__()
        self._added = added
        self._removed = removed

    def __setitem__(self, scope_id: Hashable, details: ApplicationInstance) -> None:
        record = adopted(scope_id, details)
        previous = self.get(scope_id)
        super().__setitem__(scope_id, record)
        self.move_to_end(scope_id)
        if previous is not record:
            self._added(record)
            if previous is not None:
                self._removed(previous)

    def __delitem__(self, scope_id: Hashable) -> None:
        record = self[scope_id]
        super().__delitem__(scope_id)
        self._removed(record)

    def pop(self, key: Hashable, *default: Any) -> Any:  # pyright: ignore
        if default and key not in self:
            return default[0]
        record = self[key]
        del self[key]
        return record

    def popitem(self, last: bool = True) -> tuple[Hashable, ApplicationInstance]:
        for scope_id in reversed(self) if last else self:
            return scope_id, self.pop(scope_id)
        raise KeyError("There is no application instance.")

    def clear(self) -> None:
        for record in self.records():
            self.discard(record)
            self._removed(record)

    def copy(self) -> Any:
        return dict(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("Application instances cannot be copied or pickled.")

    def oldest(self) -> Hashable:
        """Return the scope id to evict next. Raises ValueError if there is none."""
        for scope_id in self:
            return scope_id
        raise ValueError("There is no application instance to delete.")

    # For this module

    def records(self) -> list[ApplicationInstance]:
        """Return the records. (An OrderedDict's own views hash the scope ids, which may raise.)"""
        plain = cast("dict[Hashable, ApplicationInstance]", self)
        return list(dict[Hashable, ApplicationInstance].values(plain))

    def discard(self, record: ApplicationInstance) -> None:
        """Take a record out, if it is there, without a further consequence."""
        try:
            if self.get(record.scope_id) is record:
                super().__delitem__(record.scope_id)
                return
            if not any(each is record for each in self.records()):
                return
        except Exception:
            logger.debug("A scope id cannot be compared: %s", safe_repr(record.scope_id))
        self._rebuild_without(record)

    def _rebuild_without(self, record: ApplicationInstance) -> None:
        others = [each for each in self.records() if each is not record]
        super().clear()
        for other in others:
            try:
                super().__setitem__(other.scope_id, other)
            except Exception:
                self._removed(other)


class Instances:
    """All application instances of one server.

    Attributes:
        table: the live instances.
        unfinished: the records whose task has not ended, live or cancelled.
        latest: the last one in the table, most often: a look-up and a put move it once.
        settings: the options.
        state: what the server does at the moment.
        thread: the event loop that the server uses.
        lifespan_state: copied into each scope, if the application's lifespan has a state.
        on_contact: called when a scope is looked up; set while a connection is awaited.
        on_finished: called when `is_finished` may have become true.
        request_end: ends the server; set while it runs.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._dormant: WeakValueDictionary[Hashable, InputQueue] = WeakValueDictionary()
        self._giving_up = 0
        # One context for all done-callbacks, not a copy for each scope: there may be 50,000.
        self._context = contextvars.copy_context()
        self._on_end = self._ended  # likewise one bound method
        self.latest: ApplicationInstance | None = None
        self._known: tuple[Any, SingleCallable] | None = None
        self._abandoned: list[ApplicationInstance] = []
        self.hooks: HookCalls = HookCalls(server)
        self.table: InstanceTable = InstanceTable(self._added, self._removed)
        self.unfinished: set[ApplicationInstance] = set()
        self.settings: Settings = Settings()
        self.state: ServerState = ServerState.IDLE
        self.thread: LoopThread | None = None
        self.lifespan_state: Mapping[str, Any] | None = None
        self.on_contact: Callable[[], object] | None = None
        self.on_finished: Callable[[], object] | None = None
        self.request_end: Callable[[], None] | None = None

    # Looking up and starting

    def queue_for(self, scope_id: Hashable, scope: object) -> "asyncio.Queue[Any]":
        """Return the input queue of a scope, and start an instance if none is live."""
        if self.on_contact is not None:
            self.on_contact()
        instance = self.table.get(scope_id)
        if instance is None or instance.future.done():
            instance = self._find(scope_id)
            if instance is None:
                check_scope(scope_id, scope)
                if not self._starts():
                    return self._queue_only(scope_id, scope)
                instance = self._start(scope_id, scope)
        elif instance is not self.latest:
            self.latest = instance
            self.table.move_to_end(scope_id)
        return instance.input_queue

    def _starts(self) -> bool:
        return self.state is ServerState.RUNNING or self.state is ServerState.IDLE

    def _find(self, scope_id: Hashable) -> ApplicationInstance | None:
        """Return the live instance of a scope."""
        instance = self.table.get(scope_id)
        if instance is not None and instance.future.done():
            self._settle(instance)  # which may have started the next one
            return self.table.get(scope_id)
        return instance

    def _start(
        self, scope_id: Hashable, scope: object, *, redelivery: bool = False
    ) -> ApplicationInstance:
        application = self._single_callable()
        self._make_room()
        instance = self._find(scope_id)  # an overridden method may have started one meanwhile
        if instance is not None:
            return instance
        if self.thread is None or self.thread.loop.is_closed():
            self.thread = LoopThread(type(self._server).__name__)
        queue = self._queue_only(scope_id, scope)
        queue.scope = scope
        if self.lifespan_state is not None:
            scope = _with_state(scope, self.lifespan_state)
        channel = (SourcedChannel if self.settings.source is not None else Channel)(
            queue, scope, self._server
        )
        future = start_task(run_application(application, channel, queue.predecessors))
        instance = ApplicationInstance(scope_id, scope, queue, future, channel)
        instance.redelivery = redelivery
        if isinstance(channel, SourcedChannel):
            channel.instance, channel.in_hand = instance, []
            channel.source = cast(MessageSource, self.settings.source)
        try:
            self.table[scope_id] = instance
        except BaseException:  # of the scope id's own methods
            future.cancel()
            raise
        queue.instance = instance
        return instance

    def _single_callable(self) -> SingleCallable:
        """Return the application in the ASGI 3.0 style; finding its style takes microseconds."""
        application = self._server.application
        if self._known is None or self._known[0] is not application:
            check_application(application)
            self._known = (application, guarantee_single_callable(application))
        return self._known[1]

    def _make_room(self) -> None:
        while self.table and (before := len(self.table)) >= self._server.max_applications:
            self._server.delete_oldest_application_instance()
            if len(self.table) >= before:
                return  # an overridden method keeps it, or has started another one

    def _queue_only(self, scope_id: Hashable, scope: object) -> InputQueue:
        """Return the queue of a scope that has no live instance: the same one while it is kept."""
        queue = self._dormant.get(scope_id)
        if queue is None:
            queue = InputQueue(self.settings.queue_size, scope_id, scope, self)
            if not self._starts():
                self._dormant[scope_id] = queue
        return queue

    def replace(self, entries: Mapping[Hashable, Any]) -> None:
        """Put ``entries`` in the place of the present instances, which are cancelled."""
        self.table.clear()
        for scope_id, details in entries.items():
            self.table[scope_id] = details

    def _added(self, instance: ApplicationInstance) -> None:
        self.latest = instance
        self.unfinished.add(instance)
        instance.on_end = self._on_end
        instance.future.add_done_callback(instance.ended, context=self._context)
        limit = self.settings.idle_timeout
        if limit is not None and instance.channel is not None:
            self._watch(instance, limit, limit)

    # Messages

    def accept_message(self, queue: InputQueue) -> bool:
        """See to a receiver for the message that goes into ``queue`` next; False to drop it."""
        instance = queue.instance
        if instance is None or instance.future.done():
            return self._find_receiver(queue)
        if self.latest is not instance:
            self.latest = instance
            try:  # noqa: SIM105 - suppress() is not free, and this runs for every message
                self.table.move_to_end(instance.scope_id)
            except KeyError:
                pass
        return True

    def _find_receiver(self, queue: InputQueue) -> bool:
        if queue.instance is not None:
            self._settle(queue.instance)  # its end has not been noticed yet
        if queue.instance is None and self._starts():
            self._start(queue.scope_id, queue.scope)
        if queue.instance is None:
            if is_reporting():
                logger.warning(
                    "A message for scope %s came back from application_undelivered of a server "
                    "that has ended, and is dropped",
                    safe_repr(queue.scope_id),
                )
                return False
            loop = asyncio.get_running_loop()
            loop.call_soon(self._receiver_or_none, queue)
            self._giving_up += 1
        return True

    def _receiver_or_none(self, queue: InputQueue) -> None:
        """Start an instance for a queue, if the server runs (again); or give its messages up."""
        self._giving_up -= 1
        if queue.instance is None and not queue.empty():
            loop = asyncio.get_running_loop()
            none = ApplicationInstance(
                queue.scope_id, queue.scope, queue, loop.create_future(), None
            )
            none.future.cancel()
            none.state = ENDED
            self._pass_on(none, in_vain=False)
        self._check_finished()

    # Ending

    def _removed(self, instance: ApplicationInstance) -> None:
        """An instance has left the table: cancel it."""
        if instance.state is not LIVE:
            return
        instance.state = CANCELLED
        queue = instance.input_queue
        self._release(instance)
        if not instance.future.done():
            if isinstance(queue, InputQueue):
                queue.predecessors = (*queue.predecessors, instance)
            cancel(instance.future)
        self._give_up(instance)

    def _ended(self, instance: ApplicationInstance) -> None:
        self._settle(instance)
        self._check_finished()

    def _settle(self, instance: ApplicationInstance) -> None:
        """React to the end of an instance's task."""
        state, instance.state = instance.state, ENDED
        self.unfinished.discard(instance)
        if state is ENDED:
            return
        cancelled = instance.future.cancelled()
        if not cancelled:
            self._report(instance)
        if isinstance(instance.channel, SourcedChannel):
            self._tell_source(instance.channel, instance)
        if state is CANCELLED and isinstance(queue := instance.input_queue, InputQueue):
            queue.predecessors = tuple(each for each in queue.predecessors if each is not instance)
        if state is LIVE:
            self.table.discard(instance)
            self._release(instance)
            if not instance.input_queue.empty():
                in_vain = cancelled or (instance.redelivery and not received(instance))
                self._pass_on(instance, in_vain)

    def _report(self, instance: ApplicationInstance) -> None:
        failure = instance.future.exception()
        try:
            if failure is not None:
                self._hook("application_exception", instance, failure, instance)
        finally:
            del failure  # or this frame, to which the traceback may lead, would keep it

    def _tell_source(self, channel: SourcedChannel, instance: ApplicationInstance) -> None:
        returned = not instance.future.cancelled() and instance.future.exception() is None
        self.hooks.call(
            channel.queue,
            instance.scope_id,
            "instance_ended",
            *(instance, channel.in_hand, returned),
            owner=_SourceCalls(channel.source),
        )

    def _release(self, instance: ApplicationInstance) -> None:
        """Leave the scope's queue to the next instance."""
        if self.latest is instance:
            self.latest = None
        if instance.idle_timer is not None:
            instance.idle_timer.cancel()
            instance.idle_timer = None
        if instance.channel is not None:
            instance.channel.released = True
        queue = instance.input_queue
        if isinstance(queue, InputQueue) and queue.instance is instance:
            queue.instance = None
            queue.cancel_readers()  # those of tasks that the application left behind
            try:
                self._dormant[queue.scope_id] = queue
            except Exception:
                logger.debug("A scope id cannot be hashed: %s", safe_repr(queue.scope_id))

    def _pass_on(self, instance: ApplicationInstance, in_vain: bool) -> None:
        """Start the next instance for the messages that are left, or report them undelivered."""
        queue = instance.input_queue
        if not in_vain and self._starts() and isinstance(queue, InputQueue):
            try:
                self._start(instance.scope_id, queue.scope, redelivery=True)
            except Exception:
                logger.exception(
                    "No application can be started for scope %s", safe_repr(instance.scope_id)
                )
            if queue.instance is not None:
                return
        self._give_up(instance)

    def _give_up(self, instance: ApplicationInstance) -> None:
        if not instance.input_queue.empty():
            messages = drained(instance.input_queue)
            self._hook("application_undelivered", instance, messages, instance)

    def _hook(self, name: str, instance: ApplicationInstance, *args: object) -> None:
        self.hooks.call(instance.input_queue, instance.scope_id, name, *args)

    # Idle time

    def _watch(self, instance: ApplicationInstance, limit: float, delay: float) -> None:
        """One timer per instance: a message only leaves its time, which the timer finds."""
        loop = asyncio.get_running_loop()
        instance.idle_timer = loop.call_later(delay, self._check_idle, instance, limit)

    def _check_idle(self, instance: ApplicationInstance, limit: float, sure: bool = False) -> None:
        channel = instance.channel
        if channel is None or instance.state is not LIVE:
            return
        left = channel.active_at + limit - time.monotonic()
        if channel.sending or not channel.queue.empty():
            left = limit
        if left > 0:
            self._watch(instance, limit, left)
            return
        if not sure:  # after a delay of the whole loop, the application's timers come first
            loop = asyncio.get_running_loop()
            instance.idle_timer = loop.call_later(0.001, self._check_idle, instance, limit, True)
            return
        try:
            self._server.delete_application_instance(instance.scope_id)
        finally:
            if instance.state is LIVE:  # an overridden method keeps it
                self._watch(instance, limit, limit)

    # Closing

    def is_finished(self) -> bool:
        """Whether nothing of this server is left on the event loop."""
        return not (self.unfinished or self.hooks.tasks or self._giving_up)

    def _check_finished(self) -> None:
        if self.on_finished is not None and self.is_finished():
            self.on_finished()

    def ask_to_finish(self) -> None:
        """Have each instance end as soon as it asks for a message and there is none."""
        for instance in self.table.records():
            channel = instance.channel
            if channel is None or (channel.queue.has_readers() and channel.queue.empty()):
                self._remove(instance)
            else:
                channel.when_drained = instance.future.cancel

    def cancel(self) -> None:
        """Cancel every instance, and again those that were cancelled before, and running hooks."""
        cancelled = [each for each in self.unfinished if each.state is not LIVE]
        for instance in self.table.records():
            self._remove(instance)
        for instance in cancelled:
            cancel(instance.future)
        self.hooks.cancel()

    def _remove(self, instance: ApplicationInstance) -> None:
        self.table.discard(instance)
        self._removed(instance)

    def abandon(self) -> None:
        """Forget the instances and hooks that ignore their cancellation."""
        for instance in list(self.unfinished):
            logger.error("%r ignores its cancellation, and is abandoned", instance)
            instance.state = ENDED
            self.unfinished.discard(instance)
            self._abandoned.append(instance)
            detach(instance.future)
        for task in list(self.hooks.tasks):
            logger.error("A hook ignores its cancellation, and is abandoned: %r", task)
            self.hooks.tasks.discard(task)
            detach(task)

    def forget_other_loops(self) -> None:
        """Drop instances of an event loop that no longer runs."""
        loop = asyncio.get_running_loop()
        for instance in [each for each in self.unfinished if each.future.get_loop() is not loop]:
            self.unfinished.discard(instance)
            self.table.discard(instance)
            if instance.state is LIVE:
                self._release(instance)
            instance.state = ENDED


class _SourceCalls:
    """Calls the methods of a `MessageSource` at the end of an instance, in order."""

    def __init__(self, source: MessageSource) -> None:
        self._source = source

    async def instance_ended(
        self, instance: ApplicationInstance, in_hand: list[Any], returned: bool
    ) -> None:
        unacknowledged = list(in_hand)
        try:
            if returned and in_hand:
                await self._source.acknowledge(instance, in_hand[0])
                unacknowledged.clear()
        finally:
            await self._source.instance_ended(instance, unacknowledged)


def received(instance: ApplicationInstance) -> bool:
    """Whether the instance took any of its messages."""
    return instance.channel is not None and instance.channel.received


def cancel(future: "asyncio.Future[Any]") -> None:
    """Cancel a task, unless its loop was closed before it ended."""
    if not future.get_loop().is_closed():
        future.cancel()


def check_application(application: object) -> None:
    """Raise TypeError unless ``application`` can be called."""
    if not callable(application):
        raise TypeError(
            f"A StatelessServer needs an ASGI application, not {safe_repr(application)}."
        )


def check_scope(scope_id: object, scope: object) -> None:
    """Raise ValueError for a mapping without a type.

    Other scopes are passed on: asgiref never looked at them, and servers for a protocol of their
    own use an address, for example.
    """
    if isinstance(scope, Mapping) and "type" not in scope:
        value = cast(object, scope)
        raise ValueError(
            f"The scope of scope id {safe_repr(scope_id)} has no 'type': {safe_repr(value)}."
        )


def _with_state(scope: object, state: Mapping[str, Any]) -> object:
    """Return the scope with a copy of the lifespan's state, unless the server has put one there."""
    if not isinstance(scope, Mapping) or "state" in scope:
        return scope  # pyright: ignore[reportUnknownVariableType]
    return {**cast("Mapping[str, Any]", scope), "state": dict(state)}
