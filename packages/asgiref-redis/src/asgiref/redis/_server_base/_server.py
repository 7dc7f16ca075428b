"""The base class: what subclasses call, override and set.

Subclasses were written against asgiref's class, and some of them never call its ``__init__``, but
only assign ``self.application_instances = {}``. Hence every setting has a default on the class, and
the pool is made when it is first needed.
"""

import asyncio
import logging
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Any

from ._calls import check_application, check_scope, check_scope_id
from ._main import Main
from ._pool import Pool
from ._run import Run
from ._table import InstanceTable
from ._termination import sigint_is_unclaimed

logger = logging.getLogger("asgiref.server")


class StatelessServer:
    """Base class for a server that holds one connection to the outside and serves many scopes.

    Such a server (a chat bot, a queue worker, long polling) has no incoming connections whose life
    would tell when an application begins and ends. It tells by naming scopes: a subclass implements
    `handle`, which gets events from wherever they come, and for each one asks for the input queue
    of the scope that it belongs to. The first time this starts an instance of the application. What
    instances send goes to `application_send`.

    Args:
        application: an ASGI application of either style; called once for every instance.
        max_applications: how many instances may live at once, at least 1. One more evicts the least
            recently used: it is cancelled.
        idle_timeout: seconds without a message either way after which an instance is cancelled;
            None for no limit.
        queue_size: how many messages may wait for one instance, after which ``put_nowait`` raises
            asyncio.QueueFull and ``put`` waits; 0 for no limit.
        shutdown_timeout: seconds that `arun` gives instances at its end to finish what they have.
        lifespan: whether `arun` drives the application's lifespan protocol. `handle` then begins
            after the application's startup, and each scope that is a mapping and has no ``"state"``
            gets a shallow copy of the application's.

    Raises:
        TypeError: if ``application`` is not callable.
        ValueError: if ``max_applications`` is below 1.

    Everything runs on the thread of one event loop, the one that `run` makes or `arun` is awaited
    on. `handle`, `application_send` and the hooks may be plain functions as well, which
    ``asgiref.sync.sync_to_async`` calls on worker threads: `handle` on one of its own, the others
    where thread-sensitive code runs, those for one scope in order. They may call
    `get_or_create_application_instance`, the queues' ``put_nowait`` and the methods that delete, as
    may other threads that they start. Python cannot interrupt a thread: a plain `handle` that is to
    end early gets RuntimeError from the first of these calls that it makes after the server's end.

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

    #: How many instances may live at once.
    max_applications: int = 1000
    #: Seconds without a message after which an instance is cancelled; None is for no limit.
    idle_timeout: float | None = None
    #: How many messages may wait for one instance; 0 is for no limit.
    queue_size: int = 0
    #: Seconds that instances get at the end to finish what they have.
    shutdown_timeout: float = 1.0
    #: Whether `arun` drives the application's lifespan protocol.
    lifespan: bool = False

    _takes_sigint = False  # `run` has started the loop, so that SIGINT is there for the server

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
    ) -> None:
        check_application(application)
        if max_applications < 1:
            raise ValueError(f"max_applications must be at least 1, not {max_applications!r}.")
        self.application = application
        self.max_applications = max_applications
        self.idle_timeout = idle_timeout
        self.queue_size = queue_size
        self.shutdown_timeout = shutdown_timeout
        self.lifespan = lifespan

    # What a subclass implements

    async def handle(self) -> None:
        """Get events and pass them to instances, until the server is to end. Must be overridden.

        Called once by `arun`. When it returns or raises, the server ends; it is cancelled when the
        server ends for another reason.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement handle().")

    async def application_send(self, scope: Any, message: Any) -> None:
        """Pass on ``message``, which the instance for ``scope`` sent. Must be overridden.

        The instance waits until this returns, and gets what it raises.

        Args:
            scope: the scope that the instance was started with, the same object.
            message: what it sent, the same object.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement application_send().")

    async def application_exception(
        self, exception: BaseException, application_details: Any
    ) -> None:
        """An instance has failed; called once for each that does. By default this is logged.

        Args:
            exception: what it raised. A cancelled instance has not failed.
            application_details: its record; ``details["scope"]`` and ``details["future"]`` are its
                scope and task.
        """
        logger.error(
            "Exception inside application for scope %r: %s",
            getattr(application_details, "scope_id", None),
            exception,
            exc_info=exception,
        )

    async def application_undelivered(self, messages: list[Any], application_details: Any) -> None:
        """Messages for a scope that no instance received. By default their number is logged.

        That happens when an instance is cancelled (evicted, idle, deleted, at shutdown), and when
        two in succession end without having received one.

        Args:
            messages: in the order in which they were put; never empty.
            application_details: the record of the instance that had them last, as above.
        """
        logger.warning(
            "%d message(s) for scope %r were not received by any application",
            len(messages),
            getattr(application_details, "scope_id", None),
        )

    # Instances

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self)

    @property
    def application_instances(self) -> InstanceTable:
        """The live instances, as records by scope id, the least recently used first."""
        return self._pool.instances

    @application_instances.setter
    def application_instances(self, entries: Mapping[Hashable, Any]) -> None:
        self._pool.replace_instances(entries)

    def get_or_create_application_instance(
        self, scope_id: Hashable, scope: Any
    ) -> "asyncio.Queue[Any]":
        """Give the input queue of a scope, and start an instance for it if none lives.

        The queue may be kept. It stays the scope's: a message put into it after the instance has
        ended starts the next one.

        Args:
            scope_id: any hashable value that identifies the scope.
            scope: what the application is called with; only used to start one.

        Returns:
            The queue. ``put_nowait`` raises `asyncio.QueueFull` and ``put`` waits when `queue_size`
            messages are in it.

        Raises:
            TypeError: if ``scope_id`` is not hashable.
            ValueError: if ``scope`` is a mapping without ``"type"``.
            RuntimeError: if no event loop is running on this thread.
        """
        pool = self._pool
        if pool.home is not None and pool.home.is_elsewhere():
            return pool.home.call(self.get_or_create_application_instance, scope_id, scope)
        try:
            instance = pool.find(scope_id)
        except TypeError:
            check_scope_id(scope_id)
            raise
        if instance is None:
            check_scope(scope_id, scope)
            instance = pool.start(scope_id, scope)
        return instance.input_queue

    def delete_oldest_application_instance(self) -> None:
        """Delete the least recently used instance.

        Raises:
            ValueError: if there is none.
        """
        home = self._pool.home
        if home is not None and home.is_elsewhere():
            return home.call(self.delete_oldest_application_instance)
        self.delete_application_instance(self.application_instances.oldest())

    def delete_application_instance(self, scope_id: Hashable) -> None:
        """Forget a scope and cancel its instance, without waiting until that has ended.

        Args:
            scope_id: what the scope was named by.

        Raises:
            KeyError: if the scope has no live instance.
        """
        home = self._pool.home
        if home is not None and home.is_elsewhere():
            return home.call(self.delete_application_instance, scope_id)
        self._pool.delete(scope_id)

    # Running

    def run(self) -> None:
        """Run the server on an event loop of its own until `handle` returns, or Ctrl-C."""
        self._takes_sigint = sigint_is_unclaimed()
        try:
            asyncio.run(self.arun())
        except KeyboardInterrupt:
            logger.info("Exiting due to Ctrl-C/interrupt")
        finally:
            self._takes_sigint = False

    async def arun(self) -> None:
        """Run the server until `handle` returns or raises, a signal, or its own cancellation.

        At the end, instances that still have messages get ``shutdown_timeout`` seconds to receive
        them and to ask for the next; then all are cancelled and awaited. The application's lifespan
        gets as long for its shutdown. A second signal or cancellation makes all of that short.

        Signals are listened to on the main thread, where nobody else does: SIGTERM ends the server
        as if `handle` had returned; SIGINT likewise, and raises KeyboardInterrupt then.

        Raises:
            Exception: what `handle` raised.
            RuntimeError: if the application says that its startup failed (``lifespan=True``).
            KeyboardInterrupt: on SIGINT. (Below ``asyncio.run``, that cancels the task instead.)
        """
        run = Run(self, self._pool)
        main = Main(run.serve(), self.application_checker())
        await main.run(run.end, whoever_has_sigint=self._takes_sigint)

    async def application_checker(self) -> None:
        """Wait until cancelled.

        In asgiref this is the coroutine that finds ended applications, and subclasses with a main
        loop of their own start or await it. Here their ends are noticed anyway.
        """
        await asyncio.get_running_loop().create_future()
