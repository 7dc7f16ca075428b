"""The worker: a `StatelessServer` whose messages come from the partitions that it holds.

`RedisWorker.handle` runs what brings them: the listener, the rounds that keep the share
(`_holdings`), and the pump. What is said to applications and heard from them goes through lines
(`_line`) and runs (`_running`); `_admission` decides which lines may be busy, and `_host` is the
way between all of these and the worker. The base class starts, evicts and ends the applications,
and calls the hooks.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any

from asgiref.compatibility import guarantee_single_callable

from ._client import connected
from ._codec import MAX_SIZE, encoder
from ._counts import worker_metrics
from ._holdings import Holdings
from ._host import WorkerHost
from ._keys import ConnectionKeys, check_name
from ._line import Line, LineState
from ._pump import Pump
from ._running import Run
from ._server_base import StatelessServer
from ._settings import WorkerSettings, member_of
from ._setup import partitions_of
from ._tasks import end

logger = logging.getLogger("asgiref.redis")

#: Seconds, beside ``shutdown_timeout``, that handing everything over may take.
LEAVE_SECONDS = 5.0


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
        name: what people know this worker by; made up by default.
        lease: seconds after which another worker may take over what this one holds, if it is not
            heard of: at least 0.3.
        prefetch: how many messages of one partition may be read and unfinished.
        failures: with so many failures of its application, a message becomes a dead letter. That
            its worker died is a failure too.
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
        self._url = url
        self._single = guarantee_single_callable(application)
        self._quiet_limit = idle_timeout
        name = check_name("worker", name or made_up_name())
        self._settings = WorkerSettings(
            connection=check_name("connection", connection),
            group=check_name("group", group),
            name=name,
            member=member_of(name),
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
        self._host = WorkerHost(self, lease)
        self._holdings: Holdings | None = None

    @property
    def handled(self) -> int:
        """How many messages applications have finished."""
        return self._host.counts.handled

    @property
    def redelivered(self) -> int:
        """How many messages were read that an application may have seen before."""
        return self._host.counts.redelivered

    @property
    def failed(self) -> int:
        """How many failures were written down."""
        return self._host.counts.failed

    @property
    def dead(self) -> int:
        """How many messages were made dead letters."""
        return self._host.counts.dead

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
            pump = Pump(link, settings.replicas)
            holdings = self._holdings = Holdings(
                link, partitions, settings, self.shutdown_timeout, self._host
            )
            self._host.connect(pump.mark, holdings.ended, holdings.held)
            metrics = worker_metrics(settings, self._host.counts, holdings.held)
            tasks = [
                asyncio.ensure_future(each)
                for each in (pump.run(), holdings.listen(), holdings.run(), self._end_quiet_ones())
            ]
            try:
                await self._until_one_fails(tasks)
            finally:
                try:
                    await self._leave(holdings)
                finally:
                    holdings.close()
                    metrics.close()
                    await end(tasks)

    async def _leave(self, holdings: Holdings) -> None:
        """Hand everything over, which must not take for ever when Redis is away."""
        try:
            async with asyncio.timeout(self.shutdown_timeout + LEAVE_SECONDS):
                await holdings.leave()
        except TimeoutError:
            logger.warning(
                "Redis does not answer: what worker %s holds is free when its leases are over",
                self.name,
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
        line = self._host.line_of(scope)
        if line is not None:
            await Run(line, receive).run(self._single, scope)

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
            if self._host.may_go(scope_id):
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
        line = self._host.line_at(scope_id)
        super().delete_application_instance(scope_id)
        if line is not None:
            line.partition.run_ended(line, line.run)

    async def _end_quiet_ones(self) -> None:
        limit = self._quiet_limit
        while limit is not None:
            await asyncio.sleep(limit / 4)
            for scope_id, instance in list(self.application_instances.items()):
                if time.time() - instance.last_used < limit:
                    break  # they are in the order of their use
                if self._host.is_idle(scope_id):
                    self.delete_application_instance(scope_id)
        await asyncio.get_running_loop().create_future()

    async def application_send(self, scope: Any, message: Any) -> None:
        """Not called here: what applications send goes to the gateway.

        Args:
            message: what would be sent.
        """
        raise NotImplementedError("What a worker's applications send goes to the gateway.")


def made_up_name() -> str:
    """A name that tells the host and the process, and is nobody else's."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:30]
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


def patience_for(lease: float) -> float:
    """Seconds after which a Redis that does not answer is given up: well within the lease."""
    return min(5.0, max(0.5, lease / 3))
