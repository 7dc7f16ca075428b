"""The gateway: a `StatelessServer` whose scopes live in workers.

A message goes from ``handle`` into the backlog (`_backlog`), from there in batches into the
incoming stream of its scope's partition (`_inlet`), and out of the backlog when Redis has it. The
backlog is bounded: when Redis is slow, full or away, ``put`` waits, and so does ``handle``. Events
come the other way (`_outlet`).

The base class runs ``handle`` and ends it as it always does, signals included. What goes on beside
it, and until afterwards, is a session (`_session`); each run has one.
"""

from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async

from ._backlog import Backlog
from ._client import connected
from ._codec import MAX_SIZE, check_scope_id, checked, encoder
from ._delivery import Counts, Delivery, current
from ._errors import RedisServerError
from ._keys import check_name
from ._metrics import Metrics
from ._queue import ScopeQueue
from ._server_base import StatelessServer
from ._session import Session
from ._settings import GatewaySettings, check_numbers
from ._worker import made_up_name, patience_for


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("A gateway runs no applications; its workers do.")


class RedisGateway(StatelessServer):
    """Base class for the process with the connection to the outside.

    A subclass implements `handle` and `application_send` as for a `StatelessServer`; the
    applications run in workers (`RedisWorker`). Scope ids are strings, scopes and messages mappings
    that the codec can carry.

    Args:
        url: where Redis is; see `asgiref.redis`.
        connection: its name, under which workers find it.
        partitions: among how many partitions the scopes are spread: at least as many as there will
            ever be workers in a group. It is decided by the first process of the connection.
        name: this gateway's name, which no other one may have; made up by default.
        lease: seconds after which another gateway may take over, if this one is not heard of.
        backlog: how many messages may wait here for Redis.
        backlog_size: how many bytes they may have.
        stream_limit: how many messages may wait in one partition for the slowest group. That times
            ``partitions`` times the size of a message is the memory that Redis needs at most.
        failures: with so many failures of `application_send`, an event becomes a dead letter.
        retry_delay: seconds before the second attempt, doubled each time; the partition waits.
        codec: how scopes and messages are encoded, ``"json"`` or ``"msgpack"``; both are read.
        max_size: bytes that an encoded scope or message may have.
        dead_limit: about how many dead letters are kept for one partition, the latest.
        replicas: how many replicas must have everything before it counts.
        shutdown_timeout: seconds that the backlog gets at the end to go to Redis.

    Raises:
        CannotStart: if an argument or a name cannot be used.
    """

    def __init__(
        self,
        url: str,
        connection: str = "default",
        *,
        partitions: int | None = None,
        name: str | None = None,
        lease: float = 10.0,
        backlog: int = 10_000,
        backlog_size: int = 64 << 20,
        stream_limit: int = 100_000,
        failures: int = 5,
        retry_delay: float = 0.1,
        codec: str = "json",
        max_size: int = MAX_SIZE,
        dead_limit: int = 10_000,
        replicas: int = 0,
        shutdown_timeout: float = 10.0,
    ) -> None:
        super().__init__(_no_application, shutdown_timeout=shutdown_timeout)
        check_numbers(backlog=(backlog, 1), backlog_size=(backlog_size, 1))
        self._url = url
        self._settings = GatewaySettings(
            connection=check_name("connection", connection),
            name=check_name("gateway", name or made_up_name()),
            partitions=partitions,
            lease=lease,
            stream_limit=stream_limit,
            failures=failures,
            retry_delay=retry_delay,
            max_size=max_size,
            dead_limit=dead_limit,
            replicas=replicas,
        )
        self._encoded = partial(checked, encoder(codec))
        self._backlog = Backlog(backlog, backlog_size, self._encoded_message, self._home)
        self._counts = Counts()
        self._session: Session | None = None

    # For subclasses

    def get_or_create_application_instance(self, scope_id: Any, scope: Any) -> ScopeQueue:
        """Give the way to a scope, whose application some worker runs.

        Raises:
            TypeError: if ``scope_id`` is no string or ``scope`` no mapping.
            ValueError: if ``scope`` has no ``"type"``, or either is too large.
        """
        data = self._encoded_scope(check_scope_id(scope_id), scope)
        return ScopeQueue(self._backlog, scope_id, data)

    async def store(self, scope_id: str, scope: Any, message: Any) -> None:
        """Return once Redis has the message: from then on it is handled, whoever is killed.

        What `ScopeQueue.put` takes is only in this process's memory at first. Before the gateway
        runs, this waits until it does.

        Args:
            scope_id: a string that identifies the scope.
            scope: what its application is called with, by whichever worker starts one.
            message: what the application is to receive: a mapping.

        Raises:
            RedisServerError: if the gateway has ended, or ends before Redis has the message;
                ConnectionTaken if that is because another gateway has taken the connection; others
                as `get_or_create_application_instance`.
        """
        data = self._encoded_scope(check_scope_id(scope_id), scope)
        await self._backlog.store(scope_id.encode(), data, message)

    @property
    def delivery(self) -> Delivery:
        """What is being delivered, for `application_send`.

        Raises:
            LookupError: anywhere else.
        """
        delivery = current.get()
        if delivery is None:
            raise LookupError("Nothing is being delivered here.")
        return delivery

    def _encoded_scope(self, scope_id: str, scope: Any) -> bytes:
        data = self._encoded("scope", scope, self._settings.max_size)
        if not isinstance(scope.get("type"), str):
            raise ValueError(f"The scope of scope id {scope_id!r} has no 'type': {scope!r}.")
        return data

    def _encoded_message(self, message: Any) -> bytes:
        return self._encoded("message", message, self._settings.max_size)

    def _home(self) -> Any:
        return self._pool.home

    # Running

    async def arun(self) -> None:
        """Run the gateway until `handle` returns or raises, a signal, or its own cancellation.

        It may be run again after that, not at the same time.

        Raises:
            CannotStart: if Redis cannot be used.
            ConnectionTaken: if another gateway has the connection, or takes it; others as
                `StatelessServer.arun`.
        """
        self._backlog.begin()
        failure: RedisServerError | None = None
        try:
            await self._run(super().arun)
        except RedisServerError as error:
            failure = error
            raise
        finally:
            self._backlog.finish(failure)
            del failure  # its traceback leads to this frame

    async def _run(self, serve: Any) -> None:
        settings = self._settings
        async with connected(self._url, patience_for(settings.lease)) as link:
            await link.check_replicas(settings.replicas)
            session = Session(link, settings, self._backlog, self._deliver, self._counts)
            await session.enter()
            try:
                await session.open()
                self._session = session
                metrics = self._metrics()
                try:
                    await session.run(serve, lambda: self.shutdown_timeout)
                finally:
                    metrics.close()
            finally:
                await session.leave()

    async def application_checker(self) -> None:
        """Wait until cancelled, or raise what ends the gateway."""
        assert self._session is not None
        await self._session.until_it_fails()

    async def _deliver(self, scope: dict[str, Any], message: dict[str, Any]) -> None:
        send: Any = self.application_send
        if iscoroutinefunction(send):
            await send(scope, message)
        else:
            await sync_to_async(send)(scope, message)

    # What is counted

    @property
    def stored(self) -> int:
        """How many messages Redis has got."""
        return self._counts.stored

    @property
    def delivered(self) -> int:
        """How many events `application_send` has taken."""
        return self._counts.delivered

    @property
    def redelivered(self) -> int:
        """How many of them it may have been given before."""
        return self._counts.redelivered

    @property
    def failed(self) -> int:
        """How often `application_send` has failed."""
        return self._counts.failed

    @property
    def dead(self) -> int:
        """How many events have become dead letters."""
        return self._counts.dead

    def _metrics(self) -> Metrics:
        counts = self._counts
        return Metrics(
            {
                "asgiref.redis.connection": self._settings.connection,
                "asgiref.redis.gateway": self._settings.name,
            },
            {
                "asgiref.redis.gateway.stored": lambda: counts.stored,
                "asgiref.redis.gateway.delivered": lambda: counts.delivered,
                "asgiref.redis.gateway.redelivered": lambda: counts.redelivered,
                "asgiref.redis.gateway.failed": lambda: counts.failed,
                "asgiref.redis.gateway.dead_letters": lambda: counts.dead,
            },
            {"asgiref.redis.gateway.backlog": lambda: self._backlog.waiting},
        )
