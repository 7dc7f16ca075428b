"""The worker: owns partitions, and runs the application for their scopes.

Workers share the partitions evenly: each of N live workers owns 1/N of them. If some are left over,
the workers with the lowest backend process ids own one more each. A worker that owns too many
releases idle partitions first; it releases a busy one once its messages in progress are finished. A
worker that shuts down leaves the group first, so that others acquire the partitions it releases.
"""

import asyncio
import logging
import os
import random
import socket
from typing import Any

from ._codec import CannotStart, SessionLost, decode, encoder
from ._database import Database, Session
from ._delivery import Limits
from ._instances import WorkerInstances
from ._monitoring import HealthEndpoint, monitored
from ._outbox import Outbox
from ._pump import Counts, Pump
from ._schema import partition_of

logger = logging.getLogger("asgiref.postgres")

#: Seconds after an outage during which a worker acquires only partitions that it owned before: only
#: their former owner knows that no message has killed it.
_RETURN_SECONDS = 2.0
#: Seconds to clean up after the shutdown timeout.
_CLEANUP_SECONDS = 1.0


def process_name(kind: str) -> str:
    """Return a name for this process: kind, host and process id."""
    return f"asgiref.postgres {kind} {socket.gethostname()[:24]}:{os.getpid()}"


def scope_from(data: bytes | None, scope_id: str) -> dict[str, Any]:
    """Return the stored scope, or a minimal one if none was stored or it cannot be read."""
    scope: dict[str, Any] = {"type": "asgiref.postgres"}
    try:
        scope = scope if data is None else decode(data)
    except ValueError:
        logger.exception("The scope of %r cannot be read", scope_id)
    scope["scope_id"] = scope_id
    return scope


class PostgresWorker:
    """Runs an application for scopes that a gateway or `send` sends to.

    One instance at a time handles the messages of a scope, in order. A message is acknowledged
    when the application asks for the next one or returns. Events that the application sends while
    a message is in progress are stored in the same transaction as the acknowledgement, or earlier.

    Args:
        application: an ASGI application of either style. Its scopes also have a ``"scope_id"``.
            Without a stored scope, it gets ``{"type": "asgiref.postgres", "scope_id": ...}``.
            Messages that it may have seen before have ``"redelivered": True``.
        database: a `Database`, or its URL.
        limits: how much to read ahead, and how many failures make a message a dead letter.
        max_applications: the maximum number of live instances; one more evicts an idle one.
        idle_timeout: cancel an instance after this many seconds without a message.
        shutdown_timeout: seconds to finish the messages in progress at shutdown.
        codec: ``"json"`` or ``"msgpack"``, for the events that the application sends.
        name: the name that the status shows, by default the host and process id.
        health_port: answer HTTP requests on this port: 200 while connected, otherwise 503.
        health_address: the address of the health port, by default every address of the host.

    Raises:
        CannotStart: if an argument cannot be used.

    >>> async def shout(scope, receive, send):
    ...     while True:
    ...         message = await receive()
    ...         await send({"type": "say", "text": message["text"].upper()})
    >>> worker = PostgresWorker(shout, "postgresql://localhost/chat")
    >>> worker.run()  # doctest: +SKIP
    """

    def __init__(
        self,
        application: Any,
        database: Database | str | None,
        *,
        limits: Limits | None = None,
        max_applications: int = 10_000,
        idle_timeout: float | None = None,
        shutdown_timeout: float = 10.0,
        codec: str = "json",
        name: str | None = None,
        health_port: int | None = None,
        health_address: str | None = None,
    ) -> None:
        endpoint = HealthEndpoint(health_address, health_port)
        owner = self._owner = _WorkerOwner(shutdown_timeout, endpoint)
        outbox = Outbox(10_000, 16 << 20, is_numbered=False)
        owner.pump = Pump(database, name or process_name("worker"), limits, owner, outbox)
        options: dict[str, Any] = {
            "max_applications": max_applications,
            "idle_timeout": idle_timeout,
            "shutdown_timeout": shutdown_timeout + 2 * _CLEANUP_SECONDS,
        }
        owner.instances = WorkerInstances(
            application, owner.pump, owner.serve, encoder(codec), **options
        )

    @property
    def counts(self) -> Counts:
        """The work that this worker has done."""
        return self._owner.pump.counts

    @property
    def is_connected(self) -> bool:
        """Whether the worker has a session now."""
        return self._owner.pump.session is not None

    @property
    def partitions(self) -> list[int]:
        """The partitions that the worker owns now."""
        return list(self._owner.pump.delivery.partitions)

    def run(self) -> None:
        """Run until SIGINT or SIGTERM; a second signal does not wait for messages in progress.

        Raises:
            CannotStart: if the database or the port cannot be used.
        """
        self._owner.instances.run()
        self._owner.raise_failure()

    async def arun(self) -> None:
        """Run until `stop` or a cancellation; both finish the messages in progress first.

        Raises:
            CannotStart: if the database or the port cannot be used.
        """
        await self._owner.instances.arun()
        self._owner.raise_failure()

    def stop(self) -> None:
        """Finish the messages in progress, release the partitions, and make `arun` return.

        Call this on the event loop.
        """
        self._owner.stop()


class _WorkerOwner:
    """Owns partitions for a worker."""

    pump: Pump
    instances: WorkerInstances

    def __init__(self, shutdown_timeout: float, endpoint: HealthEndpoint) -> None:
        self._shutdown_timeout = shutdown_timeout
        self._endpoint = endpoint
        self._running: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._end_at: float | None = None
        self._is_done = False
        self._others_from = 0.0

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self) -> None:
        if self._end_at is None:
            self._end_at = asyncio.get_running_loop().time() + self._shutdown_timeout
            self.pump.tick_soon()
        if self.pump.session is None and self._running is not None:
            self._running.cancel()  # the pump is waiting for the database

    async def serve(self) -> None:
        """Run the pump; a cancellation asks it to stop, and a second one does not wait for it."""
        try:
            async with monitored(self.pump, self._endpoint):
                self._running = asyncio.ensure_future(self.pump.run())
                try:
                    await asyncio.wait({self._running})
                except asyncio.CancelledError:
                    self.stop()
                    await asyncio.wait({self._running})
                finally:
                    self._running.cancel()
                if self._running.done() and not self._running.cancelled():
                    self._running.result()
        except CannotStart as error:  # the server would log it too
            self._failure = error
        finally:
            self._end_at, self._is_done = None, False

    # Owner of the pump

    def is_finished(self) -> bool:
        return self._is_done or (self._end_at is not None and self.pump.session is None)

    async def opened(self, session: Session) -> None:
        self.instances.max_size = session.max_size
        self._others_from = asyncio.get_running_loop().time() + _RETURN_SECONDS
        await session.set_member(True)

    def lost(self) -> None:
        """End every instance, because another worker may already run the same scopes."""
        self.instances.end()
        self.pump.outbox.forget(SessionLost("The session ended before the event was stored."))

    async def tick(self, session: Session) -> None:
        """Share the partitions with the other workers."""
        if self._end_at is not None:
            await self._drain(session, self._end_at)
            return
        delivery = self.pump.delivery
        members, rank, taken = await session.group()
        share, left_over = divmod(session.partitions, members)
        mine = [each for each in delivery.partitions.values() if not each.is_releasing]
        surplus = len(mine) - share - (rank < left_over)
        if surplus < 0:
            await self._acquire(session, -surplus, taken)
        for partition in sorted(mine, key=lambda each: each.in_hand)[: max(0, surplus)]:
            partition.is_releasing = True
        await self._release(session)

    async def _acquire(self, session: Session, count: int, taken: set[int]) -> None:
        delivery = self.pump.delivery
        kept = [each for each in delivery.partitions.values() if each.is_releasing][:count]
        for partition in kept:
            delivery.keep(partition)
        free = [each for each in range(1, session.partitions + 1) if each not in taken]
        if self.pump.former and asyncio.get_running_loop().time() < self._others_from:
            free = [each for each in free if each in self.pump.former]
        if chosen := random.sample(free, min(count - len(kept), len(free))):
            await self.pump.acquire(session, chosen)

    async def _release(self, session: Session) -> None:
        """Release the partitions without a message in progress, once their instances have ended."""
        owned = self.pump.delivery.partitions.values()
        idle = [each.number for each in owned if each.is_releasing and not each.in_hand]
        for partition in idle:
            self.instances.end(partition)
        if free := [each for each in idle if self.instances.have_ended(each)]:
            await self.pump.release(session, free)

    async def _drain(self, session: Session, end_at: float) -> None:
        delivery = self.pump.delivery
        if session.is_member:
            await session.set_member(False)
        for partition in delivery.partitions.values():
            partition.is_releasing = True
        if asyncio.get_running_loop().time() >= end_at:
            logger.warning("The shutdown timeout expired; messages in progress will be redelivered")
            await self.instances.ended(_CLEANUP_SECONDS)
            self._is_done = True
        await self._release(session)
        self._is_done = self._is_done or not delivery.partitions

    async def ready(self, session: Session, scope_ids: list[str]) -> None:
        new = [each for each in scope_ids if not self.instances.wake(each)]
        stored = await session.scopes(new) if new else {}
        for scope_id in new:
            partition = partition_of(scope_id, session.partitions)
            if partition in self.pump.delivery.partitions and not self.instances.wake(scope_id):
                self.instances.start(scope_id, partition, scope_from(stored[scope_id], scope_id))
