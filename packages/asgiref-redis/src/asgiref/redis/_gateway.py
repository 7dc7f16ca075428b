"""The gateway: a `StatelessServer` whose scopes live in workers.

A message goes from ``handle`` into the backlog, from there in batches into the incoming stream of
its scope's partition, and out of the backlog when Redis has it. The backlog is bounded: when Redis
is slow, full or away, ``put`` waits, and so does ``handle``. Events come the other way (`_gate`).

The base class runs ``handle`` and ends it as it always does, signals included. What this class does
beside it goes on until afterwards, so that the last messages get to Redis too.

One gateway at a time has a connection. That is decided by a lease, and enforced by the partitions'
gates, which are opened with a token: whoever opened them last is the one that can write.
"""

# The gateway and its _Host are two sides of one thing: what users see, and what partitions see.
# pyright: reportPrivateUsage=false

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Any

from asgiref.server import StatelessServer
from asgiref.sync import iscoroutinefunction, sync_to_async

from ._backoff import Backoff
from ._client import Call, Link, Refused, connected
from ._codec import MAX_SIZE, check_scope_id, checked, encoder
from ._entries import entry_id
from ._errors import ConnectionTaken, RedisServerError, Unreachable
from ._gate import Delivery, Identity, Inlet, Item, Outlet, current
from ._keys import ConnectionKeys, PartitionKeys, check_name, partition_of
from ._metrics import Metrics
from ._pump import Pump, Station
from ._queue import ScopeQueue
from ._scripts import ENTER, FENCED, KEEP, LEAVE
from ._settings import check_numbers
from ._setup import PARTITIONS, check_partitions
from ._tasks import end
from ._worker import made_up_name, patience_for

logger = logging.getLogger("asgiref.redis")


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
        super().__init__(self._no_application, shutdown_timeout=shutdown_timeout)
        check_numbers(
            partitions=(1 if partitions is None else partitions, 1),
            lease=(lease, 0.3),
            backlog=(backlog, 1),
            backlog_size=(backlog_size, 1),
            stream_limit=(stream_limit, 1),
            failures=(failures, 1),
            retry_delay=(retry_delay, 0),
            max_size=(max_size, 1),
            dead_limit=(dead_limit, 1),
            replicas=(replicas, 0),
        )
        self._url = url
        self._keys = ConnectionKeys.of(check_name("connection", connection))
        self._partitions = partitions
        self._name = check_name("gateway", name or made_up_name())
        self._lease = lease
        self._limits = (backlog, backlog_size)
        self._gate_limits = (stream_limit, dead_limit, failures, retry_delay, max_size)
        self._encode = encoder(codec)
        self._max_size = max_size
        self._replicas = replicas
        self._pump: Pump | None = None
        self._inlets: list[Inlet] = []
        self._outlets: list[Outlet] = []
        self._ended: asyncio.Future[None] | None = None
        self._waiting = 0
        self._waiting_size = 0
        self._early: deque[Item] = deque()
        self._rooms: list[asyncio.Future[None]] = []
        self._joiners: list[asyncio.Future[None]] = []
        self.stored: int = 0
        self.delivered: int = 0
        self.redelivered: int = 0
        self.failed: int = 0
        self.dead: int = 0

    @staticmethod
    async def _no_application(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("A gateway runs no applications; its workers do.")

    # For subclasses

    def get_or_create_application_instance(self, scope_id: Any, scope: Any) -> ScopeQueue:
        """Give the way to a scope, whose application some worker runs.

        Raises:
            TypeError: if ``scope_id`` is no string or ``scope`` no mapping.
            ValueError: if ``scope`` has no ``"type"``, or either is too large.
        """
        return ScopeQueue(_Host(self), check_scope_id(scope_id), self._encoded(scope_id, scope))

    def _encoded(self, scope_id: str, scope: Any) -> bytes:
        data = checked(self._encode, "scope", scope, self._max_size)
        if not isinstance(scope.get("type"), str):
            raise ValueError(f"The scope of scope id {scope_id!r} has no 'type': {scope!r}.")
        return data

    async def store(self, scope_id: str, scope: Any, message: Any) -> None:
        """Return once Redis has the message: from then on it is handled, whoever is killed.

        What `ScopeQueue.put` takes is only in this process's memory at first.

        Args:
            scope_id: a string that identifies the scope.
            scope: what its application is called with, by whichever worker starts one.
            message: what the application is to receive: a mapping.

        Raises:
            ConnectionTaken: if another gateway has taken the connection before; others as
                `get_or_create_application_instance`.
        """
        id, data = check_scope_id(scope_id).encode(), self._encoded(scope_id, scope)
        while self._is_full():
            await self._room()
        stored = asyncio.get_running_loop().create_future()
        self._take(id, data, message, stored)
        await stored

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

    # Running

    async def arun(self) -> None:
        """Run the gateway until `handle` returns or raises, a signal, or its own cancellation.

        Raises:
            CannotStart: if Redis cannot be used.
            ConnectionTaken: if another gateway has the connection, or takes it; others as
                `StatelessServer.arun`.
        """
        async with connected(self._url, patience_for(self._lease)) as link:
            await link.check_replicas(self._replicas)
            token = await self._enter(link)
            try:
                await self._open(link, token)
                await self._run_beside(link, super().arun)
            finally:
                with suppress(Unreachable, Refused):
                    await link.call(Call(LEAVE, (self._keys.gateway,), (self._name,)))

    async def _enter(self, link: Link) -> int:
        """Take the lease: wait for one that nobody renews, refuse one that somebody does."""
        wanted = self._partitions or PARTITIONS
        call = Call(
            ENTER,
            (self._keys.gateway, self._keys.settings),
            (self._name, int(self._lease * 1000), wanted),
        )
        expected, before = 0.0, None
        while True:
            answer = await link.call(call)
            if answer[0] != FENCED:
                self._partitions = check_partitions(self._keys, self._partitions, answer[1])
                return int(answer[0])
            left, holder = answer[1] / 1000, answer[2].decode()
            if before is not None and (holder != before or left > expected):
                raise ConnectionTaken(
                    f"The connection {self._keys.connection!r} has a gateway: {holder}."
                )
            seconds = min(left, self._lease / 3) + 0.05
            expected, before = left - seconds / 2, holder
            await asyncio.sleep(seconds)

    async def _open(self, link: Link, token: int) -> None:
        stream_limit, dead_limit, failures, retry_delay, max_size = self._gate_limits
        identity = Identity(
            self._name, token, stream_limit, dead_limit, failures, retry_delay, max_size
        )
        assert self._partitions is not None
        keys = [
            PartitionKeys.of(self._keys.connection, number) for number in range(self._partitions)
        ]
        host = _Host(self)
        self._inlets = [Inlet(each, identity, host) for each in keys]
        answers = await link.run([each.open_call() for each in self._inlets], self._replicas)
        if FENCED in answers:
            raise ConnectionTaken(
                f"Another gateway took the connection {self._keys.connection!r} just now."
            )
        for answer in answers:
            if isinstance(answer, Refused):
                raise RedisServerError(f"Redis refuses to begin: {answer}")
        self._outlets = [
            Outlet(each, identity, host, entry_id(answer), self._deliver)
            for each, answer in zip(keys, answers, strict=True)
        ]

    async def _run_beside(self, link: Link, run: Any) -> None:
        pump = self._pump = Pump(link, self._replicas)
        self._ended = asyncio.get_running_loop().create_future()
        listener = link.listen({self._keys.outgoing}, self._heard)
        tasks = [
            asyncio.ensure_future(each)
            for each in (self._guarded(pump.run()), listener.run(), self._guarded(self._keep(link)))
        ]
        for item in self._early:
            self._inlet(item).put(item)
        self._early.clear()
        metrics = self._metrics()
        try:
            await run()
        finally:
            metrics.close()
            await self._end_outlets()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.shutdown_timeout):
                    await self._all_stored()
            self._give_up()
            await end(tasks)
            self._pump = None
            if self._ended.done():
                self._ended.exception()  # it was raised by `application_checker`, if in time

    def _metrics(self) -> Metrics:
        return Metrics(
            {
                "asgiref.redis.connection": self._keys.connection,
                "asgiref.redis.gateway": self._name,
            },
            {
                "asgiref.redis.gateway.stored": lambda: self.stored,
                "asgiref.redis.gateway.delivered": lambda: self.delivered,
                "asgiref.redis.gateway.redelivered": lambda: self.redelivered,
                "asgiref.redis.gateway.failed": lambda: self.failed,
                "asgiref.redis.gateway.dead_letters": lambda: self.dead,
            },
            {"asgiref.redis.gateway.backlog": lambda: self._waiting},
        )

    async def application_checker(self) -> None:
        """Wait until cancelled, or raise what ends the gateway."""
        assert self._ended is not None
        for each in self._outlets:
            each.look()
        await asyncio.wait({self._ended})  # which does not cancel it, unlike awaiting it
        self._ended.result()

    async def _guarded(self, running: Any) -> None:
        try:
            await running
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
        self._wake_waiters()

    async def _keep(self, link: Link) -> None:
        """Renew the lease, and delete what was delivered."""
        keep = Call(KEEP, (self._keys.gateway,), (self._name, int(self._lease * 1000)))
        tidy = [each.tidy_call() for each in self._outlets]
        backoff = Backoff()
        while True:
            try:
                answer, *_ = await link.run([keep, *tidy])
                if answer == FENCED:
                    raise ConnectionTaken(
                        f"Another gateway took the connection {self._keys.connection!r}."
                    )
            except (Unreachable, Refused) as error:
                logger.warning("The lease of the gateway was not renewed: %s", error)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                for each in self._outlets:
                    each.look()
                await asyncio.sleep(self._lease / 3)

    def _heard(self, channel: str, text: str) -> None:
        if not text:
            for each in self._outlets:
                each.look()
        elif text.isdecimal() and int(text) < len(self._outlets):
            self._outlets[int(text)].look()

    async def _deliver(self, scope: dict[str, Any], message: dict[str, Any]) -> None:
        send: Any = self.application_send
        if iscoroutinefunction(send):
            await send(scope, message)
        else:
            await sync_to_async(send)(scope, message)

    async def _end_outlets(self) -> None:
        tasks = [each.task for each in self._outlets if each.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # The backlog

    def _is_full(self) -> bool:
        messages, size = self._limits
        return self._waiting >= messages or self._waiting_size >= size

    def _put(self, scope_id: bytes, scope: bytes, message: Any) -> None:
        """Take a message. Raises asyncio.QueueFull; may be called on threads of the server."""
        home = self._pool.home
        if home is not None and home.is_elsewhere():
            return home.call(self._put, scope_id, scope, message)
        if self._is_full():
            raise asyncio.QueueFull
        self._take(scope_id, scope, message, None)

    def _take(
        self, scope_id: bytes, scope: bytes, message: Any, stored: "asyncio.Future[None] | None"
    ) -> None:
        self._check_not_ended()
        data = checked(self._encode, "message", message, self._max_size)
        item = Item(scope_id, scope, data, stored)
        self._waiting += 1
        self._waiting_size += item.size
        if self._pump is None:
            self._early.append(item)
        else:
            self._inlet(item).put(item)

    def _inlet(self, item: Item) -> Inlet:
        return self._inlets[partition_of(item.scope_id, len(self._inlets))]

    def _check_not_ended(self) -> None:
        if self._ended is not None and self._ended.done():
            failure = self._ended.exception()
            raise ConnectionTaken(f"The gateway has ended: {failure}")

    async def _room(self) -> None:
        """Wait until the backlog may have room."""
        self._check_not_ended()
        room = asyncio.get_running_loop().create_future()
        self._rooms.append(room)
        await room

    async def _all_stored(self) -> None:
        """Wait until the backlog is empty."""
        while self._waiting:
            self._check_not_ended()
            joiner = asyncio.get_running_loop().create_future()
            self._joiners.append(joiner)
            await joiner

    def _wake_waiters(self) -> None:
        waiters, self._rooms = self._rooms, []
        if not self._waiting or (self._ended is not None and self._ended.done()):
            waiters, self._joiners = waiters + self._joiners, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _give_up(self) -> None:
        """Fail whoever waits for what will not be stored any more."""
        if self._waiting:
            logger.error("%d messages were not stored before the end", self._waiting)
        for inlet in self._inlets:
            for item in inlet.drained():
                self._waiting -= 1
                self._waiting_size -= item.size
                if item.stored is not None and not item.stored.done():
                    item.stored.set_exception(
                        ConnectionTaken("The gateway ended before Redis had the message.")
                    )
        self._wake_waiters()


class _Host:
    """What queues, and both ends of a partition, ask of their gateway.

    Not methods of the gateway: a subclass of that has names of its own.
    """

    __slots__ = ("_gateway",)

    def __init__(self, gateway: RedisGateway) -> None:
        self._gateway = gateway

    # For the queues

    def is_full(self) -> bool:
        return self._gateway._is_full()

    def take(self, scope_id: bytes, scope: bytes, message: Any) -> None:
        self._gateway._put(scope_id, scope, message)

    async def room(self) -> None:
        await self._gateway._room()

    async def all_stored(self) -> None:
        await self._gateway._all_stored()

    # For the ends

    def mark(self, station: Station) -> None:
        if self._gateway._pump is not None:
            self._gateway._pump.mark(station)

    def taken(self, error: ConnectionTaken) -> None:
        self._gateway._end(error)

    def left(self, item: Item) -> None:
        self._gateway._waiting -= 1
        self._gateway._waiting_size -= item.size
        self._gateway.stored += 1
        if item.stored is not None and not item.stored.done():
            item.stored.set_result(None)
        if self._gateway._rooms or (not self._gateway._waiting and self._gateway._joiners):
            self._gateway._wake_waiters()

    def count_delivered(self, redelivered: bool) -> None:
        self._gateway.delivered += 1
        self._gateway.redelivered += redelivered

    def count_failure(self, buried: bool) -> None:
        self._gateway.failed += 1
        self._gateway.dead += buried
