"""The life of application instances: started, ended, started again for what is left, closed.

Rules:

1. Nothing polls. An instance's end is a done-callback of its task; whoever comes upon an ended task
   before that callback (a put, a look-up) settles it first. Settling happens once per record.
2. Every message is received by an instance, or given to the server's ``application_undelivered``.
   An instance that ends by itself and leaves messages is followed by one new instance; if that one
   was started for this reason and takes none of them either, they are undelivered. So an
   application that dies at its start is started at most twice for a message. An instance that was
   cancelled is not followed by another: its messages are undelivered.
3. A failure is reported once, with its record. A cancellation is not a failure.
4. Tasks are referred to from here until they end, also those of evicted instances, which are in no
   table any more. The event loop alone keeps only weak references.
5. What is kept for a scope is as little as can be (`_queue`, `_channel`, `_instance`): there may be
   50,000, and a message to a scope that has not been used for long has to fetch all of it from
   memory. So done-callbacks share one context of the pool instead of a copy each; an instance that
   is started for what another one has left runs in a copy of it.

Everything runs on the thread of the event loop, in callbacks and in the calls of the server; `home`
is what leads there, and is set while the server has methods that run elsewhere.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol, cast

from asgiref.compatibility import SingleCallable, guarantee_single_callable

from ._calls import Remembered, check_application, started
from ._channel import channel_for
from ._dormant import DormantQueues
from ._home import Home
from ._hooks import HookCalls
from ._idle import IdleTimeout
from ._instance import ApplicationInstance, State
from ._queue import InputQueue, drained
from ._table import InstanceTable

logger = logging.getLogger("asgiref.server")


class Hooks(Protocol):
    """What the pool needs of the server; read at each use, so that it can be set at any time."""

    application: Any
    max_applications: int
    queue_size: int
    idle_timeout: float | None

    def delete_oldest_application_instance(self) -> None: ...
    def delete_application_instance(self, scope_id: Hashable) -> None: ...
    def application_send(self, scope: Any, message: Any) -> Any: ...
    def application_exception(self, exception: BaseException, application_details: Any) -> Any: ...
    def application_undelivered(self, messages: list[Any], application_details: Any) -> Any: ...


def checked_single_callable(application: Any) -> SingleCallable:
    """The application in the ASGI 3.0 style; someone may have replaced it by anything."""
    check_application(application)
    return guarantee_single_callable(application)


class Pool:
    """All application instances of one server."""

    def __init__(self, server: Hooks) -> None:
        self._server = server
        self._style = Remembered(checked_single_callable)
        self._channels = Remembered(channel_for)
        self._idle = IdleTimeout(self._end_quiet)
        self._dormant = DormantQueues()
        self._cancelled: set[asyncio.Future[Any]] = set()
        self._hooks = HookCalls(server)
        self._closing = False
        self._context = contextvars.copy_context()
        self._on_end = self._ended  # one bound method, not one for each instance
        self.home: Home | None = None
        #: What is copied into each scope, if the application's lifespan has a state.
        self.state: Mapping[str, Any] | None = None
        self.instances = InstanceTable(self._watch)
        #: The last in the table, most often: a look-up and the message after it move it once.
        self._latest: ApplicationInstance | None = None

    # Starting

    def find(self, scope_id: Hashable) -> ApplicationInstance | None:
        """The live instance of a scope, which thereby counts as just used."""
        instance = self.instances.get(scope_id)
        if instance is not None and instance.future.done():
            self._settle(instance)  # which may have started the next one
            return self.instances.get(scope_id)
        if instance is not None and instance is not self._latest:
            self._latest = instance
            self.instances.move_to_end(scope_id)
        return instance

    def start(
        self, scope_id: Hashable, scope: object, *, redelivery: bool = False
    ) -> ApplicationInstance:
        """Start an instance and put it into the table, having made room there."""
        self._make_room()
        queue = self._dormant.take(scope_id)
        if queue is None:
            queue = InputQueue(self._server.queue_size, scope_id, scope, self)
        queue.scope = scope
        if self.state is not None:
            scope = self._with_state(scope)
        send = self._server.application_send
        channel_class = self._channels.of(getattr(send, "__func__", send))
        channel = channel_class(queue, scope, self._server)
        application = self._style.of(self._server.application)
        future = started(application, scope=scope, receive=channel.receive, send=channel.send)
        instance = ApplicationInstance(scope_id, scope, queue, future, channel)
        instance.redelivery = redelivery
        queue.instance = instance
        self.instances.add(instance)
        self._idle.watch(instance, self._server.idle_timeout)
        return instance

    def _with_state(self, scope: object) -> object:
        """The scope with a copy of the state of its own, unless the server has put one there."""
        if not isinstance(scope, Mapping) or "state" in scope:
            return scope  # pyright: ignore[reportUnknownVariableType]
        return {**cast("Mapping[str, Any]", scope), "state": dict(self.state or {})}

    def _make_room(self) -> None:
        while self.instances and len(self.instances) >= self._server.max_applications:
            self._server.delete_oldest_application_instance()

    def replace_instances(self, entries: Mapping[Hashable, object]) -> None:
        """Put a new table, with ``entries``, in the place of the present one."""
        self._latest = None
        self.instances = InstanceTable(self._watch, entries)

    def _watch(self, instance: ApplicationInstance) -> None:
        self._latest = instance
        instance.on_end = self._on_end
        instance.future.add_done_callback(instance.ended, context=self._context)

    def _use(self, instance: ApplicationInstance) -> None:
        """The scope is used. (For every message: ``try`` is free, ``suppress`` is not.)"""
        self._latest = instance
        try:  # noqa: SIM105
            self.instances.move_to_end(instance.scope_id)
        except KeyError:  # a server has taken it out of the table by itself
            pass

    def before_put(self, queue: InputQueue) -> None:
        """A message is about to go into ``queue``: see that somebody receives it."""
        instance = queue.instance
        if instance is None:
            self._revive(queue)
        elif instance.future.done():
            self._settle(instance)
            self._revive(queue)
        else:
            if instance.channel is not None:
                instance.channel.active_at = time.monotonic()
            if self._latest is not instance:
                self._use(instance)

    def _revive(self, queue: InputQueue) -> None:
        if queue.instance is not None:  # settling has started the next one
            return
        if self._closing:
            # No instance may be started: a record of none takes the message, once it is in.
            loop = asyncio.get_running_loop()
            none = ApplicationInstance(
                queue.scope_id, queue.scope, queue, loop.create_future(), None
            )
            none.future.cancel()
            loop.call_soon(self._give_up, none)
        else:
            self.start(queue.scope_id, queue.scope)

    # Ending

    def delete(self, scope_id: Hashable) -> None:
        """Take an instance out of the table and cancel it. Raises KeyError if there is none."""
        instance = self.instances.pop(scope_id)
        if instance.state is not State.LIVE:
            return
        instance.state = State.CANCELLED
        if not instance.future.done():
            self._cancelled.add(instance.future)
            instance.future.cancel()
        self._release(instance)
        self._give_up(instance)

    def _end_quiet(self, instance: ApplicationInstance) -> None:
        if self.instances.get(instance.scope_id) is instance:
            self._server.delete_application_instance(instance.scope_id)

    def _ended(self, instance: ApplicationInstance) -> None:
        self._cancelled.discard(instance.future)
        self._settle(instance)

    def _settle(self, instance: ApplicationInstance) -> None:
        """Draw the consequences of an instance's end."""
        state, instance.state = instance.state, State.ENDED
        if state is State.ENDED:
            return
        cancelled = instance.future.cancelled()
        if not cancelled:
            self._report(instance)
        if state is State.LIVE:
            if self.instances.get(instance.scope_id) is instance:
                del self.instances[instance.scope_id]
            self._release(instance)
            if not instance.input_queue.empty():
                self._pass_on(instance, cancelled)

    def _report(self, instance: ApplicationInstance) -> None:
        failure = instance.future.exception()
        try:
            if failure is not None:
                self._run_hook("application_exception", instance, failure)
        finally:
            del failure  # or this frame, which the traceback may reach, would keep it

    def _release(self, instance: ApplicationInstance) -> None:
        """Let go of the scope's queue, which others may go on to use."""
        if self._latest is instance:
            self._latest = None
        if instance.idle_timer is not None:
            instance.idle_timer.cancel()
            instance.idle_timer = None
        if instance.channel is not None:
            instance.channel.closed = True
        queue = instance.input_queue
        if isinstance(queue, InputQueue) and queue.instance is instance:
            queue.instance = None
            queue.cancel_readers()  # those that the instance's end has not ended
            self._dormant.add(queue)

    def _pass_on(self, instance: ApplicationInstance, cancelled: bool) -> None:
        """Messages are left: start the next instance for them, or say that nobody took them."""
        queue = instance.input_queue
        in_vain = cancelled or (instance.redelivery and not received(instance))
        if in_vain or self._closing or not isinstance(queue, InputQueue):
            self._give_up(instance)
            return
        try:
            self.start(instance.scope_id, queue.scope, redelivery=True)
        except Exception:
            logger.exception("No application can be started for scope %r", instance.scope_id)
            self._give_up(instance)

    def _give_up(self, instance: ApplicationInstance) -> None:
        """Hand what is left in the instance's queue to the hook for that."""
        if not instance.input_queue.empty():
            messages = drained(instance.input_queue)
            self._run_hook("application_undelivered", instance, messages)

    def _run_hook(self, name: str, instance: ApplicationInstance, what: object) -> None:
        self._hooks.run(instance.scope_id, name, what, instance)

    # Closing

    async def close(self, grace: float) -> None:
        """End every instance: ``grace`` seconds to finish what it has, then its cancellation.

        An instance has finished when it asks for a message and there is none, or when it ends.
        When this returns, no task of the pool is left. Cancelling it cuts the grace short.
        """
        self._closing = True
        try:
            for instance in list(self.instances.values()):
                self._ask_to_finish(instance)
            await _wait([instance.future for instance in self.instances.values()], grace)
            for scope_id in list(self.instances):
                self.delete(scope_id)
            await _wait(self._cancelled)
            await _wait(self._hooks.tasks, grace)
        finally:
            await self._cancel_everything()
            self._hooks.take_time()
            self._closing = False

    async def _cancel_everything(self) -> None:
        while self.instances or self._cancelled or self._hooks.tasks:
            for scope_id in list(self.instances):
                self.delete(scope_id)
            self._hooks.hurry()
            await _wait([*self._cancelled, *self._hooks.tasks])

    def _ask_to_finish(self, instance: ApplicationInstance) -> None:
        channel = instance.channel
        if channel is None or (channel.queue.has_readers() and channel.queue.empty()):
            self.delete(instance.scope_id)
        else:
            channel.when_drained = instance.future.cancel


def received(instance: ApplicationInstance) -> bool:
    """Whether the instance took any of its messages."""
    return instance.channel is not None and instance.channel.received


async def _wait(futures: Iterable[asyncio.Future[Any]], seconds: float | None = None) -> None:
    """Until all have ended and their done-callbacks have run, or for so many seconds."""
    pending = {future for future in futures if not future.done()}
    if pending:
        await asyncio.wait(pending, timeout=seconds)
    await asyncio.sleep(0)
