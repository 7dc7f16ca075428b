"""The base class: the methods that subclasses call and override.

Existing subclasses were written for asgiref's class. They have their own attributes and methods,
and some assign ``self.application_instances = {}`` without calling ``__init__``. So all private
state lives in one attribute whose name is not an identifier, created when it is first needed; and
options that asgiref lacks are arguments, not attributes.
"""

import asyncio
import signal
import traceback
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Any

from ._hooks import is_failed
from ._instance import MessageSource
from ._loop import is_loop_running, logger, safe_repr
from ._running import Reconnect, ServerRun, run_to_end
from ._table import Instances, InstanceTable, ServerSettings, check_application

#: The attribute with all private state. It is not an identifier, so no subclass can have it.
_PRIVATE = "asgiref.server instances"


def _instances_of(server: "StatelessServer") -> Instances:
    private = server.__dict__
    instances: Instances = private.get(_PRIVATE) or private.setdefault(_PRIVATE, Instances(server))
    return instances


def _option(name: str) -> Any:
    """Expose a constructor option. (Subclasses could not assign to the name of a property.)"""
    return cached_property(lambda server: getattr(_instances_of(server).settings, name))


class StatelessServer:
    """Base class for a server that holds one connection to the outside and serves many scopes.

    Such a server (a chat bot, a queue worker, long polling) has no incoming connections, so no
    connection can determine when an application starts and ends. The server names scopes instead. A
    subclass implements `handle`, which gets events from any source and looks up the input queue of
    the scope that each event belongs to. The first look-up starts an instance of the application.
    Messages that instances send go to `application_send`.

    Args:
        application: an ASGI application of either style; called once for each instance.
        max_applications: how many instances may be live at once, at least 1. Starting one more
            evicts the least recently used instance, which is cancelled.
        idle_timeout: an instance is cancelled this many seconds after it last received or sent a
            message, unless messages wait for it or it is sending; None for no limit.
        queue_size: how many messages may wait for one instance. When the queue is full,
            ``put_nowait`` raises asyncio.QueueFull and ``put`` waits; 0 for no limit.
        shutdown_timeout: how long `arun` lets instances finish their pending messages at shutdown,
            in seconds. Cancelled instances get the same time, and at least one second, to clean up.
        lifespan: whether `arun` runs the application's lifespan protocol. If so, `handle` starts
            after the application's startup, and each scope that is a mapping without ``"state"``
            gets a shallow copy of the application's state.
        reconnect: a `Reconnect`, to run `handle` again whenever it returns or raises. The instances
            stay alive in the meantime.
        source: a `MessageSource`, if messages do not come from the input queue or must be
            acknowledged.

    Raises:
        TypeError: if ``application`` is not callable.
        ValueError: if ``max_applications`` is below 1, ``idle_timeout`` is not above 0, or
            ``shutdown_timeout`` is negative.

    Everything runs on one event loop: the loop that `run` creates or `arun` is awaited on. Plain
    functions are also called there, and an awaitable that they return is awaited. Decorate a method
    with ``asgiref.sync.sync_to_async`` to run it on a worker thread; a blocking `handle` needs
    ``sync_to_async(thread_sensitive=False)``, or it blocks the other methods. Any thread may call
    `get_or_create_application_instance`, the ``delete_…`` methods, and a queue's ``put_nowait``.
    Python cannot interrupt a thread: a thread that outlives the server gets RuntimeError from its
    next such call.

    >>> async def shout(scope, receive, send):
    ...     while True:
    ...         await send(f"{scope['user']}: {(await receive()).upper()}")
    >>> class Chat(StatelessServer):
    ...     async def handle(self):
    ...         for user, text in [("ada", "hello"), ("ben", "hi"), ("ada", "bye")]:
    ...             scope = {"type": "chat", "user": user}
    ...             self.get_or_create_application_instance(user, scope).put_nowait(text)
    ...     async def application_send(self, scope, message):
    ...         print(message)
    >>> Chat(shout).run()
    ada: HELLO
    ada: BYE
    ben: HI
    """

    #: How many instances may be live at once.
    max_applications: int = 1000

    # These show the constructor's arguments. Assigning to them does not change the server.
    #: The argument of the same name.
    idle_timeout: Any = _option("idle_timeout")
    #: The argument of the same name.
    queue_size: Any = _option("queue_size")
    #: The argument of the same name.
    shutdown_timeout: Any = _option("shutdown_timeout")
    #: The argument of the same name.
    lifespan: Any = _option("lifespan")

    application_checker_interval: float = 0.1
    """Kept for asgiref's API, where it is the interval between polls. It has no effect here."""

    def __init__(
        self,
        application: Any,
        max_applications: int = 1000,
        *,
        idle_timeout: float | None = None,
        queue_size: int = 0,
        shutdown_timeout: float = 1.0,
        lifespan: bool = False,
        reconnect: Reconnect | None = None,
        source: MessageSource | None = None,
    ) -> None:
        check_application(application)
        if max_applications < 1:
            raise ValueError(f"max_applications must be at least 1, not {max_applications!r}.")
        if idle_timeout is not None and idle_timeout <= 0:
            raise ValueError(f"idle_timeout must be more than 0, or None, not {idle_timeout!r}.")
        if shutdown_timeout < 0:
            raise ValueError(f"shutdown_timeout must not be negative: {shutdown_timeout!r}.")
        self.application = application
        self.max_applications = max_applications
        _instances_of(self).settings = ServerSettings(
            idle_timeout, queue_size, shutdown_timeout, lifespan, reconnect, source
        )

    def __init_subclass__(cls, **options: Any) -> None:
        """Remove a class attribute ``application_instances = {}``, which would hide the table."""
        super().__init_subclass__(**options)
        if isinstance(vars(cls).get("application_instances"), dict):
            delattr(cls, "application_instances")

    # For subclasses to implement

    async def handle(self) -> None:
        """Get events and pass them to instances until the server should end. Must be overridden.

        `arun` calls this once, or repeatedly with a `Reconnect`. When it returns or raises, the
        server shuts down; when the server shuts down for another reason, this is cancelled.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement handle().")

    async def application_send(self, scope: Any, message: Any) -> None:
        """Deliver ``message``, which the instance for ``scope`` sent. Must be overridden.

        The instance waits until this returns, and gets any exception that it raises.

        Args:
            scope: the scope object that the instance was started with.
            message: the object that the instance sent.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement application_send().")

    async def application_exception(
        self, exception: BaseException, application_details: Any
    ) -> None:
        """Handle the failure of an instance; called once for each failure. By default, logs it.

        For one scope, calls to this method and to `application_undelivered` run one after the
        other, and the next instance waits for them. A call is cancelled after ten seconds. An
        exception that they raise is logged; one that is not an ``Exception``, such as SystemExit,
        shuts the server down, and `arun` raises it.

        Args:
            exception: the exception that the instance raised. Cancellation is not a failure.
            application_details: the instance's record; ``details["scope"]`` and
                ``details["future"]`` are its scope and task.
        """
        scope_id = safe_repr(getattr(application_details, "scope_id", None))
        reason = traceback.format_exception_only(exception)[-1].rstrip()
        text = "Exception inside application for scope %s: %s"
        logger.error(text, scope_id, reason, exc_info=exception)

    async def application_undelivered(self, messages: list[Any], application_details: Any) -> None:
        """Handle messages that no instance received. By default, logs their number.

        Messages are undelivered if their instance is cancelled (evicted, idle, deleted, at
        shutdown), if two instances in succession end without receiving one, or if they arrive
        while the server is shutting down. If this method then puts them into a queue again, they
        are dropped.

        Args:
            messages: the messages, in the order in which they were put; never empty.
            application_details: the record of the last instance that had them; see
                `application_exception`.
        """
        scope_id = safe_repr(getattr(application_details, "scope_id", None))
        text = "%d message(s) for scope %s were not received by any application"
        logger.warning(text, len(messages), scope_id)

    # Instances

    @property
    def application_instances(self) -> InstanceTable:
        """The live instances as records by scope id, least recently used first.

        Deleting an entry cancels its instance.
        """
        return _instances_of(self).table

    @application_instances.setter
    def application_instances(self, entries: Mapping[Hashable, Any]) -> None:
        _instances_of(self).replace(dict(entries))

    def get_or_create_application_instance(
        self, scope_id: Hashable, scope: Any
    ) -> "asyncio.Queue[Any]":
        """Return the input queue of a scope, and start an instance if none is live.

        You can keep the queue, because it belongs to the scope. A message put into it after the
        instance has ended starts the next instance, which first waits for the scope's cancelled
        instance, if any, to end. While the server is shutting down, no instance starts: messages go
        to `application_undelivered`.

        Args:
            scope_id: any hashable value that identifies the scope.
            scope: the scope for the application; used only if this starts an instance.

        Returns:
            The queue. When it holds ``queue_size`` messages, ``put_nowait`` raises
            `asyncio.QueueFull` and ``put`` waits.

        Raises:
            TypeError: if ``scope_id`` is not hashable.
            RuntimeError: if no event loop is running on this thread and the server never had one.
        """
        # Each message takes this path, so it avoids a call.
        instances: Instances = self.__dict__.get(_PRIVATE) or _instances_of(self)
        return instances.get_or_create_application_instance(scope_id, scope)

    def delete_oldest_application_instance(self) -> None:
        """Delete the least recently used instance.

        Raises:
            ValueError: if there is none.
        """
        if (instances := _instances_of(self)).is_elsewhere():
            return instances.call(StatelessServer.delete_oldest_application_instance, self)
        if not instances.order:
            raise ValueError("There is no application instance to delete.")
        self.delete_application_instance(instances.oldest())

    def delete_application_instance(self, scope_id: Hashable) -> None:
        """Forget a scope and cancel its instance, without waiting for it to end.

        In `application_exception`, the failed instance is already gone, and this does nothing.

        Args:
            scope_id: the id that the scope was looked up by.

        Raises:
            KeyError: if the scope has no live instance.
        """
        if (instances := _instances_of(self)).is_elsewhere():
            return instances.call(StatelessServer.delete_application_instance, self, scope_id)
        if is_failed(scope_id):
            return  # already gone: any live instance is its successor, which has not failed
        del instances.table[scope_id]

    # Running

    def run(self) -> None:
        """Run the server on its own event loop until `handle` ends or a signal arrives.

        SIGINT (Ctrl-C) and SIGTERM shut the server down as cleanly as cancelling `arun` does, but
        without an exception. A second signal shortens the shutdown, even if Python code blocks the
        event loop. (While a library's C code blocks it, Python handles no signal: call such code on
        a worker thread.) If the program has its own handler for a signal, the server leaves that
        signal alone.

        Raises:
            Exception: any exception from `arun`.
            RuntimeError: if an event loop is running on this thread.
        """
        if is_loop_running():
            raise RuntimeError("An event loop is running on this thread: await arun() instead.")
        try:
            number = run_to_end(self.arun, _instances_of(self))
        except KeyboardInterrupt:
            number = signal.SIGINT
        if number is not None:
            name = "Ctrl-C/interrupt" if number is signal.SIGINT else number.name
            logger.info("Exiting due to %s", name)

    async def arun(self) -> None:
        """Run the server until `handle` returns or raises, or this call is cancelled.

        At the end, instances that still have messages get ``shutdown_timeout`` seconds to receive
        them and ask for the next. Then all instances are cancelled and awaited, and cancelled again
        if they keep running. The application's lifespan gets the same time for its shutdown. A
        second cancellation shortens all of this. A task that ignores every cancellation is
        abandoned, with an error in the log: it stays on the event loop. (`run` closes the loop
        anyway; `asyncio.run` waits for such a task indefinitely.)

        This method does not handle signals.

        Raises:
            Exception: the exception that `handle` raised.
            RuntimeError: if the application reports that its startup failed (``lifespan=True``), or
                if this server is already running.
        """
        await ServerRun(self, _instances_of(self)).run()

    async def application_checker(self) -> None:
        """Wait until cancelled.

        In asgiref this coroutine finds applications that have ended, and subclasses with their own
        main loop start or await it. This server notices without it when an application ends.
        """
        await asyncio.get_running_loop().create_future()
