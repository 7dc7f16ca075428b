"""The worker: a `StatelessServer` whose messages come from the partitions that it holds.

`RedisWorker.handle` runs what brings them: the listener, the rounds that keep the share, and the
pump. What is said to applications and heard from them goes through lines (`_line`) and runs
(`_running`); the base class starts, evicts and ends the applications, and calls the hooks.

At most ``max_applications`` lines are busy, which means that an application of theirs has a message
or is offered one; others wait (`_parked`). So there is always one that rests when an application
has to go for another one, and none is evicted in the middle of a message.
"""

# The worker and its _Host are two sides of one thing: what users see, and what partitions see.
# pyright: reportPrivateUsage=false

import asyncio
import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from asgiref.compatibility import guarantee_single_callable
from asgiref.server import StatelessServer

from ._client import connected
from ._codec import MAX_SIZE, encoder
from ._holdings import Holdings
from ._keys import ConnectionKeys, check_name
from ._line import Line, LineState
from ._metrics import Metrics
from ._partition import Partition
from ._pump import Pump, Station
from ._running import Run, line_of
from ._settings import Settings, check_numbers
from ._setup import partitions_of
from ._tasks import end

logger = logging.getLogger("asgiref.redis")


class RedisWorker(StatelessServer):
    """Serves an application to the scopes of the partitions that this process holds.

    Any number of workers of one ``group`` share the connection's partitions among them; every group
    gets every message. The application is the one that a `StatelessServer` would have. In its scope
    it finds ``"redis"``, a dict that says where it runs: ``connection``, ``group``, ``worker``,
    ``partition``, ``token`` and ``scope_id``. A message that an application may have seen before
    has ``"redelivered": True``.

    Args:
        application: an ASGI application of either style.
        url: where Redis is; see `asgiref.redis`.
        group: the name of the group.
        connection: the name of the connection, as its gateway gives it.
        name: this worker's name, which no other one may have; made up by default.
        lease: seconds after which another worker may take over what this one holds, if it is not
            heard of: at least 0.3.
        prefetch: how many messages of one partition may be read and unfinished.
        failures: with so many failures of its application, a message becomes a dead letter.
        retry_delay: seconds before an application gets a message again that it failed with, doubled
            each time.
        codec: how events are encoded, ``"json"`` or ``"msgpack"``; both are always read.
        max_size: bytes that an encoded scope or message may have.
        stream_limit: how many events may wait for the gateway in one partition, after which
            applications wait in ``send``.
        dead_limit: about how many dead letters are kept for one partition, the latest.
        replicas: how many replicas must have everything before it counts.
        max_applications: how many instances may live at once; one more evicts the least recently
            used of those that have no message in hand.
        idle_timeout: seconds without a message after which an instance is cancelled.
        lifespan: whether the application's lifespan protocol is driven.
        shutdown_timeout: seconds that applications get to finish what they have in hand, at the
            worker's end and when a partition is handed over.

    Raises:
        CannotStart: if an argument or a name cannot be used; `run` also if Redis cannot be used.
        TypeError: if ``application`` is not callable.
    """

    def __init__(
        self,
        application: Any,
        url: str,
        *,
        group: str,
        connection: str = "default",
        name: str | None = None,
        lease: float = 10.0,
        prefetch: int = 256,
        failures: int = 5,
        retry_delay: float = 0.1,
        codec: str = "json",
        max_size: int = MAX_SIZE,
        stream_limit: int = 100_000,
        dead_limit: int = 10_000,
        replicas: int = 0,
        max_applications: int = 10_000,
        idle_timeout: float | None = None,
        shutdown_timeout: float = 10.0,
        lifespan: bool = False,
    ) -> None:
        super().__init__(
            application, max_applications, shutdown_timeout=shutdown_timeout, lifespan=lifespan
        )
        check_numbers(
            lease=(lease, 0.3),
            prefetch=(prefetch, 1),
            failures=(failures, 1),
            retry_delay=(retry_delay, 0),
            max_size=(max_size, 1),
            stream_limit=(stream_limit, 1),
            dead_limit=(dead_limit, 1),
            replicas=(replicas, 0),
        )
        self._url = url
        self._single = guarantee_single_callable(application)
        self._quiet_limit = idle_timeout
        self._settings = Settings(
            connection=check_name("connection", connection),
            group=check_name("group", group),
            name=check_name("worker", name or made_up_name()),
            encode=encoder(codec),
            lease=lease,
            prefetch=prefetch,
            failures=failures,
            retry_delay=retry_delay,
            max_size=max_size,
            stream_limit=stream_limit,
            dead_limit=dead_limit,
            replicas=replicas,
        )
        self.application: Any = self._serve
        self._pump: Pump | None = None
        self._holdings: Holdings | None = None
        self._busy = 0
        self._parked: deque[Line] = deque()
        self._ending: dict[int, set[asyncio.Future[Any]]] = {}
        self.handled: int = 0
        self.redelivered: int = 0
        self.failed: int = 0
        self.dead: int = 0

    @property
    def name(self) -> str:
        """The worker's name."""
        return self._settings.name

    @property
    def partitions(self) -> dict[int, str]:
        """The partitions that are held now, each with its state, ``"held"`` or ``"draining"``."""
        held = {} if self._holdings is None else self._holdings.held
        return {number: partition.state.value for number, partition in sorted(held.items())}

    @property
    def rounds(self) -> int:
        """How often the leases have been renewed."""
        return 0 if self._holdings is None else self._holdings.rounds

    # Running

    async def handle(self) -> None:
        """Work until cancelled; then finish what is in hand and hand everything over.

        Raises:
            CannotStart: if Redis cannot be used, or nobody has said how many partitions there are.
        """
        settings = self._settings
        async with connected(self._url, patience_for(settings.lease)) as link:
            await link.check_replicas(settings.replicas)
            partitions = await partitions_of(link, ConnectionKeys.of(settings.connection))
            pump = self._pump = Pump(link, settings.replicas)
            holdings = self._holdings = Holdings(
                link, partitions, settings, self.shutdown_timeout, _Host(self)
            )
            metrics = self._metrics()
            tasks = [
                asyncio.ensure_future(each)
                for each in (pump.run(), holdings.listen(), holdings.run(), self._end_quiet_ones())
            ]
            try:
                await self._until_one_fails(tasks)
            finally:
                try:
                    await holdings.leave()
                finally:
                    holdings.close()
                    metrics.close()
                    await end(tasks)

    def _metrics(self) -> Metrics:
        def over_held(number_of: Callable[[Partition], int]) -> Callable[[], int]:
            def total() -> int:
                held = {} if self._holdings is None else self._holdings.held
                return sum(number_of(each) for each in list(held.values()))

            return total

        settings = self._settings
        return Metrics(
            {
                "asgiref.redis.connection": settings.connection,
                "asgiref.redis.group": settings.group,
                "asgiref.redis.worker": settings.name,
            },
            {
                "asgiref.redis.worker.handled": lambda: self.handled,
                "asgiref.redis.worker.redelivered": lambda: self.redelivered,
                "asgiref.redis.worker.failed": lambda: self.failed,
                "asgiref.redis.worker.dead_letters": lambda: self.dead,
            },
            {
                "asgiref.redis.worker.partitions": over_held(lambda _: 1),
                "asgiref.redis.worker.pending": over_held(lambda each: each.pending),
                "asgiref.redis.worker.lag": over_held(lambda each: each.lag),
            },
        )

    async def _until_one_fails(self, tasks: "Sequence[asyncio.Future[None]]") -> None:
        logger.info("Worker %s of group %s works", self.name, self._settings.group)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """What the base class knows as the application."""
        if "redis" not in scope:
            await self._single(scope=scope, receive=receive, send=send)
            return
        line = line_of(scope, self._partition(scope["redis"]["partition"]))
        if line is not None:
            await Run(line, receive).run(self._single, scope)

    def _partition(self, number: int) -> Partition | None:
        return None if self._holdings is None else self._holdings.held.get(number)

    async def application_undelivered(self, messages: list[Any], application_details: Any) -> None:
        """Two applications in succession ended without receiving the message that they got."""
        line: Line = messages[0]
        if line.partition.takes_new and line.state is LineState.OFFERED:
            reason, trace = line.trouble or ("the application ended without receiving it", "")
            line.trouble = None
            line.fail(reason, trace)

    # What the base class asks for

    def delete_oldest_application_instance(self) -> None:
        """Delete the least recently used instance that rests."""
        instances = self.application_instances
        for _ in range(len(instances)):
            scope_id = instances.oldest()
            line = self._line(scope_id)
            if line is None or line.state in (LineState.IDLE, LineState.FAILED):
                self.delete_application_instance(scope_id)
                return
            instances.move_to_end(scope_id)  # busy: it is used right now
        super().delete_oldest_application_instance()

    def delete_application_instance(self, scope_id: Any) -> None:
        """Forget a scope and cancel its instance; a message that it has in hand comes again.

        Args:
            scope_id: what the scope is named by.

        Raises:
            KeyError: if the scope has no live instance.
        """
        line = self._line(scope_id)
        super().delete_application_instance(scope_id)
        if line is not None:
            line.partition.run_ended(line)

    def _line(self, scope_id: Any) -> Line | None:
        scope: Any = self.application_instances[scope_id].scope
        return line_of(scope, self._partition(scope["redis"]["partition"]))

    async def _end_quiet_ones(self) -> None:
        limit = self._quiet_limit
        while limit is not None:
            await asyncio.sleep(limit / 4)
            for scope_id, instance in list(self.application_instances.items()):
                if time.time() - instance.last_used < limit:
                    break  # they are in the order of their use
                line = self._line(scope_id)
                if line is None or line.state is LineState.IDLE:
                    self.delete_application_instance(scope_id)
        await asyncio.get_running_loop().create_future()

    async def application_send(self, scope: Any, message: Any) -> None:
        """Not called here: what applications send goes to the gateway.

        Args:
            message: what would be sent.
        """
        raise NotImplementedError("What a worker's applications send goes to the gateway.")


class _Host:
    """What partitions and lines ask of their worker.

    Not methods of the worker: a subclass of that has names of its own.
    """

    __slots__ = ("_worker",)

    def __init__(self, worker: RedisWorker) -> None:
        self._worker = worker

    def mark(self, station: Station) -> None:
        assert self._worker._pump is not None
        self._worker._pump.mark(station)

    def offer(self, line: Line) -> None:
        """Have the line's application, which is started if need be, receive its first message."""
        if self._worker._busy >= self._worker.max_applications:
            line.state = LineState.PARKED
            self._worker._parked.append(line)
            return
        self._worker._busy += 1
        line.state = LineState.OFFERED
        if line.queue is None:
            line.queue = self._worker.get_or_create_application_instance(line.scope_id, line.scope)
        line.queue.put_nowait(line)

    def withdrawn(self, line: Line) -> None:
        """The line is not busy any more: another one may be."""
        self._worker._busy -= 1
        while self._worker._parked and self._worker._busy < self._worker.max_applications:
            waiting = self._worker._parked.popleft()
            if waiting.state is LineState.PARKED and waiting.partition.takes_new:
                self.offer(waiting)

    def stop(self, partition: Partition, scope_id: str) -> None:
        """Cancel a scope's application, if it has one."""
        instance = self._worker.application_instances.get(scope_id)
        if instance is not None:
            ending = self._worker._ending.setdefault(partition.number, set())
            ending.add(instance.future)
            StatelessServer.delete_application_instance(self._worker, scope_id)

    def has_ended(self, number: int) -> bool:
        """Whether all applications of a partition that was held have ended."""
        left = {future for future in self._worker._ending.get(number, ()) if not future.done()}
        self._worker._ending[number] = left
        return not left

    def ended(self, partition: Partition) -> None:
        if self._worker._holdings is not None:
            self._worker._holdings.ended(partition)

    def count_handled(self) -> None:
        self._worker.handled += 1

    def count_failure(self, buried: bool) -> None:
        self._worker.failed += 1
        self._worker.dead += buried

    def count_redelivered(self) -> None:
        self._worker.redelivered += 1


def made_up_name() -> str:
    """A name that tells the host and the process, and is nobody else's."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:30]
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


def patience_for(lease: float) -> float:
    """Seconds after which a Redis that does not answer is given up: well within the lease."""
    return min(5.0, max(0.5, lease / 3))
