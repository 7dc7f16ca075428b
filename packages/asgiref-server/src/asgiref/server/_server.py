"""The base class: the methods that subclasses call and override.

Subclasses were written against asgiref's class. They have attributes and methods of their own, and
some of them never call ``__init__`` but only assign ``self.application_instances = {}``. So all
private state is in one attribute with a name that no code can spell, created when it is first
needed, and the options that asgiref does not have are arguments, not attributes.
"""

import asyncio
import logging
from collections.abc import Hashable, Mapping
from typing import Any

from ._hooks import is_failed, safe_repr
from ._instance import MessageSource
from ._loop import is_loop_running
from ._running import Reconnect, Run, run_to_end
from ._table import Instances, InstanceTable, Settings, check_application

logger = logging.getLogger("asgiref.server")


#: The attribute with all private state. No attribute of a subclass has a name like that.
_PRIVATE = "asgiref.server instances"


def _instances_of(server: "StatelessServer") -> Instances:
    instances: Instances | None = server.__dict__.get(_PRIVATE)
    if instances is None:
        instances = server.__dict__[_PRIVATE] = Instances(server)
    return instances


class _Option:
    """Shows an option of the constructor. (No property: subclasses assign to these names.)"""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, server: "StatelessServer | None", owner: type) -> Any:
        return getattr(Settings() if server is None else _instances_of(server).settings, self._name)


class StatelessServer:
    """Base class for a server that holds one connection to the outside and serves many scopes.

    Such a server (a chat bot, a queue worker, long polling) has no incoming connections whose life
    would tell when an application starts and ends. It names scopes instead: a subclass implements
    `handle`, which gets events from anywhere, and asks for the input queue of the scope that each
    event belongs to. The first time, this starts an instance of the application. The messages that
    instances send go to `application_send`.

    Args:
        application: an ASGI application of either style; called once for every instance.
        max_applications: how many instances may be live at once, at least 1. One more evicts the
            least recently used: it is cancelled.
        idle_timeout: seconds after the last message received or sent after which an instance is
            cancelled, unless messages wait for it or it is sending; None for no limit.
        queue_size: how many messages may wait for one instance, after which ``put_nowait`` raises
            asyncio.QueueFull and ``put`` waits; 0 for no limit.
        shutdown_timeout: seconds that `arun` gives instances at its end to finish the messages that
            they have; as long, and at least one second, is the time to clean up after a
            cancellation.
        lifespan: whether `arun` drives the application's lifespan protocol. `handle` is then called
            after the application's startup, and each scope that is a mapping without ``"state"``
            gets a shallow copy of the application's.
        reconnect: a `Reconnect`, to have `handle` run again whenever it returns or raises. The
            instances live on meanwhile.
        source: a `MessageSource`, if messages come from elsewhere than the input queue or are to be
            acknowledged.

    Raises:
        TypeError: if ``application`` is not callable.
        ValueError: if ``max_applications`` is below 1, or ``idle_timeout`` is not above 0.

    Everything runs on one event loop, the one that `run` creates or `arun` is awaited on. Plain
    functions are called on it too, and what they return is awaited if it can be. Decorate a method
    with ``asgiref.sync.sync_to_async`` to run it on a worker thread; a blocking `handle` needs
    ``sync_to_async(thread_sensitive=False)``, or it keeps the others from running. Any thread may
    call `get_or_create_application_instance`, the methods that delete and a queue's ``put_nowait``.
    Python cannot interrupt a thread: one that outlives the server gets RuntimeError from its next
    such call.

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

    # These show the arguments. Assigning to them changes nothing here.
    #: The argument of the same name.
    idle_timeout: Any = _Option()
    #: The argument of the same name.
    queue_size: Any = _Option()
    #: The argument of the same name.
    shutdown_timeout: Any = _Option()
    #: The argument of the same name.
    lifespan: Any = _Option()

    application_checker_interval: float = 0.1
    """Kept from asgiref's API, where it is the time between two polls. Nothing polls here."""

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
        self.application = application
        self.max_applications = max_applications
        _instances_of(self).settings = Settings(
            idle_timeout, queue_size, shutdown_timeout, lifespan, reconnect, source
        )

    def __init_subclass__(cls, **options: Any) -> None:
        """Ignore an ``application_instances = {}`` of the class, which would hide the table."""
        super().__init_subclass__(**options)
        if isinstance(vars(cls).get("application_instances"), dict):
            delattr(cls, "application_instances")

    # For subclasses to implement

    async def handle(self) -> None:
        """Get events and pass them to instances, until the server is to end. Must be overridden.

        Called once by `arun`, or repeatedly with a `Reconnect`. When it returns or raises, the
        server ends; it is cancelled when the server ends for another reason.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement handle().")

    async def application_send(self, scope: Any, message: Any) -> None:
        """Pass on ``message``, which the instance for ``scope`` sent. Must be overridden.

        The instance waits until this returns, and gets the exception that it raises.

        Args:
            scope: the scope that the instance was started with, the same object.
            message: what the instance sent, the same object.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement application_send().")

    async def application_exception(
        self, exception: BaseException, application_details: Any
    ) -> None:
        """Handle the failure of an instance; called once for each failure, and logs by default.

        Calls of this and of `application_undelivered` for one scope are made one after the other,
        unless one takes longer than five seconds. An exception that they raise is logged; one that
        is not an ``Exception``, such as SystemExit, ends the server, and `arun` raises it.

        Args:
            exception: what the instance raised. A cancelled instance has not failed.
            application_details: its record; ``details["scope"]`` and ``details["future"]`` are its
                scope and task.
        """
        logger.error(
            "Exception inside application for scope %s: %s",
            safe_repr(getattr(application_details, "scope_id", None)),
            _text(exception),
            exc_info=exception,
        )

    async def application_undelivered(self, messages: list[Any], application_details: Any) -> None:
        """Handle messages that no instance received. By default their number is logged.

        Messages are undelivered when their instance is cancelled (evicted, idle, deleted, at
        shutdown), when two instances in succession end without having received one, and when they
        arrive while the server ends. If this method puts them into a queue again while the server
        ends, they are dropped.

        Args:
            messages: in the order in which they were put; never empty.
            application_details: the record of the instance that had them last, as above.
        """
        logger.warning(
            "%d message(s) for scope %s were not received by any application",
            len(messages),
            safe_repr(getattr(application_details, "scope_id", None)),
        )

    # Instances

    @property
    def application_instances(self) -> InstanceTable:
        """The live instances, as records by scope id, the least recently used first.

        Deleting an entry cancels its instance.
        """
        return _instances_of(self).table

    @application_instances.setter
    def application_instances(self, entries: Mapping[Hashable, Any]) -> None:
        _instances_of(self).replace(dict(entries))

    def get_or_create_application_instance(
        self, scope_id: Hashable, scope: Any
    ) -> "asyncio.Queue[Any]":
        """Return the input queue of a scope, and start an instance for it if none is live.

        The queue may be kept. It stays the scope's: a message put into it after the instance has
        ended starts the next one, which waits until a cancelled one has ended. Once the server
        ends, no instance is started any more: messages go to `application_undelivered`.

        Args:
            scope_id: any hashable value that identifies the scope.
            scope: what the application is called with; only used to start one.

        Returns:
            The queue. ``put_nowait`` raises `asyncio.QueueFull` and ``put`` waits when
            ``queue_size`` messages are in it.

        Raises:
            TypeError: if ``scope_id`` is not hashable.
            ValueError: if ``scope`` is a mapping without ``"type"``.
            RuntimeError: if no event loop is running on this thread, and none was before.
        """
        instances = _instances_of(self)
        if (other := instances.other_thread()) is not None:
            return other.call(self.get_or_create_application_instance, scope_id, scope)
        try:
            return instances.queue_for(scope_id, scope)
        except TypeError:
            check_scope_id(scope_id)
            raise

    def delete_oldest_application_instance(self) -> None:
        """Delete the least recently used instance.

        Raises:
            ValueError: if there is none.
        """
        if (other := _instances_of(self).other_thread()) is not None:
            return other.call(self.delete_oldest_application_instance)
        for scope_id in _instances_of(self).order:
            return self.delete_application_instance(scope_id)
        raise ValueError("There is no application instance to delete.")

    def delete_application_instance(self, scope_id: Hashable) -> None:
        """Forget a scope and cancel its instance, without waiting until that has ended.

        In `application_exception`, the failed instance is gone already, and this does nothing.

        Args:
            scope_id: the name that the scope was looked up by.

        Raises:
            KeyError: if the scope has no live instance.
        """
        if (other := _instances_of(self).other_thread()) is not None:
            return other.call(self.delete_application_instance, scope_id)
        if is_failed(scope_id):
            return  # it is gone already: there may be the next one, which has not failed
        del _instances_of(self).table[scope_id]

    # Running

    def run(self) -> None:
        """Run the server on an event loop of its own until `handle` returns or raises, or a signal.

        SIGINT (Ctrl-C) and SIGTERM end the server cleanly: as `arun` ends when it is cancelled, but
        without an exception. A second signal makes that short, also if the event loop is stuck.
        Signals for which the program has a handler of its own are left to it.

        Raises:
            Exception: what `arun` raises.
            RuntimeError: if an event loop is running on this thread.
        """
        if is_loop_running():
            raise RuntimeError("An event loop is running on this thread: await arun() instead.")
        try:
            number = run_to_end(self.arun, _instances_of(self))
        except KeyboardInterrupt:
            logger.info("Exiting due to Ctrl-C/interrupt")
            return
        if number is not None:
            name = "Ctrl-C/interrupt" if number.name == "SIGINT" else number.name
            logger.info("Exiting due to %s", name)

    async def arun(self) -> None:
        """Run the server until `handle` returns or raises, or its own cancellation.

        At the end, instances that still have messages get ``shutdown_timeout`` seconds to receive
        them and to ask for the next; then all are cancelled and awaited, and cancelled again if
        they go on. The application's lifespan gets as long for its shutdown. A second cancellation
        makes all of that short. What ignores every cancellation is abandoned, which is logged.

        Signals are left to the program that awaits this.

        Raises:
            Exception: what `handle` raised.
            RuntimeError: if the application says that its startup failed (``lifespan=True``), or if
                this server is running already.
        """
        await Run(self, _instances_of(self)).run()

    async def application_checker(self) -> None:
        """Wait until cancelled.

        In asgiref this is the coroutine that finds ended applications, and subclasses with a main
        loop of their own start or await it. Here their ends are noticed anyway.
        """
        await asyncio.get_running_loop().create_future()


def check_scope_id(scope_id: object) -> None:
    """Raise TypeError unless ``scope_id`` can identify a scope."""
    try:
        hash(scope_id)
    except TypeError as error:
        raise TypeError(f"A scope id must be hashable, not {safe_repr(scope_id)}.") from error


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return safe_repr(exception)
