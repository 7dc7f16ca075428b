"""The worker: owns partitions, and runs the application for their scopes.

Partitions are shared evenly: with N live workers each owns at most 1/N of them, rounded up. A
worker that has more gives up idle partitions first, and waits for messages in hand in the others.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from typing import Any

from ._codec import CannotStart, SessionLost, check_scope_id, decode, encode, encoder
from ._database import Database, Session
from ._delivery import Limits, Message
from ._instances import Instances
from ._pump import Counts, Item, Pump

logger = logging.getLogger("asgiref.postgres")


def process_name(kind: str) -> str:
    """Return a name for this process: kind, host and process id."""
    return f"asgiref.postgres {kind} {socket.gethostname()[:24]}:{os.getpid()}"


def scope_from(data: bytes | None, scope_id: str) -> dict[str, Any]:
    """Return the stored scope, or a minimal one for a scope that was never stored."""
    scope: dict[str, Any] = {"type": "asgiref.postgres"} if data is None else decode(data)
    scope.setdefault("scope_id", scope_id)
    return scope


class PostgresWorker:
    """Runs an application for the scopes of a gateway.

    Messages of a scope are handled in order, by one instance at a time. A message is acknowledged
    when the application asks for the next one or returns. What it sends while it has a message in
    hand is stored at the latest with the acknowledgement, in the same transaction.

    Args:
        application: an ASGI application of either style; called with the scope, with
            ``"scope_id"`` added. Messages that it may have seen have ``"redelivered": True``.
        database: a `Database`, or its URL.
        limits: how much is read ahead, and after how many failures a message is a dead letter.
        max_applications: so many instances may be live; one more evicts an idle one.
        idle_timeout: seconds without a message after which an instance is cancelled.
        shutdown_timeout: seconds that messages in hand get at the end.
        codec: ``"json"`` or ``"msgpack"``, for what the application sends.
        name: shown by the status.

    Raises:
        CannotStart: if an argument cannot be used.
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
    ) -> None:
        if not callable(application):
            raise CannotStart(f"The application must be callable, not {application!r}.")
        if max_applications < 1:
            raise CannotStart(f"max_applications must be at least 1, not {max_applications!r}.")
        self._encoder = encoder(codec)
        self._database = database if isinstance(database, Database) else Database(database)
        self._shutdown_timeout = shutdown_timeout
        self._pump = Pump(
            self._database,
            name or process_name("worker"),
            limits or Limits(),
            self,
            to_gateway=True,
            backlog=10_000,
            backlog_size=16 << 20,
        )
        self._instances = Instances(
            application, self, max_applications=max_applications, idle_timeout=idle_timeout
        )
        self._max_size = 0
        self._is_ending = False
        self._end_at: float | None = None
        self._is_done = False

    @property
    def counts(self) -> Counts:
        """What this worker has done."""
        return self._pump.counts

    @property
    def is_connected(self) -> bool:
        """Whether it has a session now."""
        return self._pump.session is not None

    @property
    def partitions(self) -> list[int]:
        """The partitions that it owns now."""
        return self._pump.delivery.partitions

    # Running

    def run(self, *, health_port: int | None = None) -> None:
        """Run until SIGINT or SIGTERM; a second one does not wait for messages in hand.

        Args:
            health_port: answer HTTP requests on this port: 200 while connected, otherwise 503.

        Raises:
            CannotStart: if the database or the port cannot be used.
        """
        asyncio.run(self._run_with_signals(health_port))

    async def _run_with_signals(self, health_port: int | None) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def asked_to_end() -> None:
            if self._is_ending:
                task.cancel()
            self.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            # Not on Windows, where Ctrl-C cancels the task.
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, asked_to_end)
        try:
            async with contextlib.AsyncExitStack() as stack:
                if health_port is not None:
                    await stack.enter_async_context(await self._health_server(health_port))
                await self.arun()
        except asyncio.CancelledError:
            logger.warning("Ended before all messages in hand were handled")

    async def _health_server(self, port: int) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, TimeoutError, asyncio.LimitOverrunError, EOFError):
                async with asyncio.timeout(5):
                    await reader.readuntil(b"\r\n\r\n")
                status = b"200 OK" if self.is_connected else b"503 Service Unavailable"
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
                )
                await writer.drain()
            writer.close()

        try:
            return await asyncio.start_server(answer, port=port)
        except OSError as error:
            raise CannotStart(f"The health port {port} cannot be used: {error}.") from error

    def stop(self) -> None:
        """End: finish the messages in hand, hand the partitions over, and return from `arun`."""
        if not self._is_ending:
            self._is_ending = True
            self._end_at = asyncio.get_running_loop().time() + self._shutdown_timeout
            self._pump.wake()

    async def arun(self) -> None:
        """Run until `stop` or a cancellation.

        Raises:
            CannotStart: if the database cannot be used.
        """
        try:
            await self._pump.run()
        finally:
            await self._instances.ended(1.0)

    # Owner of the pump

    def is_finished(self) -> bool:
        return self._is_done or (self._is_ending and self._pump.session is None)

    async def opened(self, session: Session) -> None:
        self._max_size = session.max_size
        await session.join()

    def lost(self) -> None:
        """Cancel every instance: another worker may run the same scopes already."""
        self._instances.cancel()
        self._pump.forget_items(SessionLost("The session was lost before the event was stored."))

    async def tick(self, session: Session) -> None:
        """Share the partitions with the other workers."""
        self._instances.cancel_idle()
        delivery = self._pump.delivery
        if self._is_ending:
            await self._drain(session)
            return
        locks = await session.locks()
        share = -(-session.partitions // max(1, locks.members))
        mine = [each for each in delivery.partitions if not delivery.is_releasing(each)]
        if len(mine) > share:
            idle_first = sorted(mine, key=delivery.in_hand)
            for partition in idle_first[: len(mine) - share]:
                delivery.begin_release(partition)
        elif len(mine) < share:
            await self._acquire(session, share - len(mine), set(locks.owners))
        await self._pump.release(session, self._instances.cancel)

    async def _acquire(self, session: Session, count: int, taken: set[int]) -> None:
        delivery = self._pump.delivery
        releasing = [each for each in delivery.partitions if delivery.is_releasing(each)]
        for partition in releasing[:count]:
            delivery.keep(partition)
            count -= 1
        free = [each for each in range(1, session.partitions + 1) if each not in taken]
        if free and count:
            wanted = random.sample(free, min(count, len(free)))
            for partition, suspect in (await session.acquire(wanted)).items():
                delivery.acquire(partition, suspect)
            self._pump.look()

    async def _drain(self, session: Session) -> None:
        delivery = self._pump.delivery
        for partition in delivery.partitions:
            if not delivery.is_releasing(partition):
                delivery.begin_release(partition)
        await self._pump.release(session, self._instances.cancel)
        loop = asyncio.get_running_loop()
        if delivery.partitions and self._end_at is not None and loop.time() >= self._end_at:
            logger.warning("The shutdown timeout is over; messages in hand will be redelivered")
            await self._instances.ended(1.0)
            await self._pump.release(session, self._instances.cancel)
            self._is_done = True
        self._is_done = self._is_done or not delivery.partitions

    async def ready(self, session: Session, scope_ids: list[str]) -> None:
        new = [each for each in scope_ids if not self._instances.wake(each)]
        if not new:
            return
        delivery = self._pump.delivery
        stored = await session.scopes(new)
        for scope_id in new:
            partition = delivery.partition_of(scope_id)
            if partition is None or self._instances.wake(scope_id):
                continue
            try:
                scope = scope_from(stored.get(scope_id), scope_id)
            except ValueError as error:
                self._discard(scope_id, f"The scope cannot be read: {error}")
                continue
            self._instances.start(scope_id, partition, scope)

    def _discard(self, scope_id: str, reason: str) -> None:
        message = self.next_message(scope_id)
        if message is not None:
            self._pump.delivery.discard(message, reason)

    # Source of the instances

    def next_message(self, scope_id: str) -> Message | None:
        message = self._pump.delivery.next_message(scope_id)
        if message is not None and message.redelivered:
            self.counts.redelivered += 1
        return message

    def decoded(self, message: Message) -> dict[str, Any] | None:
        """Return the message as the application gets it; a dead letter if it cannot be read."""
        try:
            event = decode(message.data)
        except ValueError as error:
            self._pump.delivery.discard(message, f"The message cannot be read: {error}")
            self._pump.wake()
            return None
        if message.redelivered:
            event["redelivered"] = True
        return event

    def acknowledge(self, message: Message) -> None:
        self._pump.delivery.acknowledge(message)
        self._pump.wake()

    def failed(self, message: Message, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._pump.delivery.fail(message, reason, now):
            logger.error("Message %d of scope %r is a dead letter", message.id, message.scope_id)
        self._pump.wake()

    def put_back(self, message: Message) -> None:
        self._pump.delivery.put_back(message)
        self._pump.wake()

    def instance_ended(self, scope_id: str) -> None:
        self._pump.delivery.offer(scope_id)
        self._pump.wake()

    async def send(self, scope_id: str, event: Any, in_hand: Message | None) -> None:
        data = encode(self._encoder, "message", event, self._max_size)
        if self._pump.is_full():
            await self._pump.room()
        item = Item(check_scope_id(scope_id), data, in_hand is not None and in_hand.redelivered)
        if in_hand is not None:
            self._pump.insert(item)
            return
        # No message would bring this about again, so the application has to know.
        item.stored = asyncio.get_running_loop().create_future()
        self._pump.insert(item)
        await item.stored
