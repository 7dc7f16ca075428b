"""One run of a gateway, from the lease on its connection to its end.

    enter ──> open ──> run ──> leave

`enter` takes the lease: one gateway at a time has a connection. What enforces that are the
partitions' gates, which `open` opens with a token: whoever opened them last is the one that can
write. In a cluster some partitions may be away then; their ends open them when they are back.

Beside the server's own `run`, three tasks carry messages, hear of events, and keep the lease. They
go on until that has ended, so that the last messages get to Redis too. The session fails when the
connection is another gateway's, or when one of the tasks has an error that is none of Redis: then
the backlog ends at once, and `until_it_fails` raises.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from ._backlog import Backlog
from ._backoff import Backoff
from ._client import Call, Link, Refused, Unanswered
from ._delivery import Counts
from ._entries import entry_id
from ._errors import ConnectionTaken, RedisServerError, Unreachable
from ._gate import Identity, open_call
from ._inlet import Inlet, Item
from ._keys import ConnectionKeys, PartitionKeys, partition_of
from ._outlet import Deliver, Outlet
from ._pump import Pump, Station
from ._scripts import ENTER, FENCED, KEEP, LEAVE
from ._settings import GatewaySettings
from ._setup import PARTITIONS, check_partitions
from ._tasks import end

logger = logging.getLogger("asgiref.redis")


class Session:
    """A run, over a link that is there.

    Args:
        deliver: gets a scope and a message that came back.
        counts: where to count.
    """

    def __init__(
        self,
        link: Link,
        settings: GatewaySettings,
        backlog: Backlog,
        deliver: Deliver,
        counts: Counts,
    ) -> None:
        self._link = link
        self._settings = settings
        self._keys = ConnectionKeys.of(settings.connection)
        self._backlog = backlog
        self._deliver = deliver
        self._counts = counts
        self._token = 0
        self._partitions = 0
        self._pump = Pump(link, settings.replicas)
        self._inlets: list[Inlet] = []
        self._outlets: list[Outlet] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # The lease

    async def enter(self) -> None:
        """Take the lease: wait for one that nobody renews, refuse one that somebody does.

        Raises:
            ConnectionTaken: if another gateway has it.
            CannotStart: if the connection has another number of partitions.
            RedisServerError: if Redis goes away meanwhile, or refuses.
        """
        settings = self._settings
        wanted = settings.partitions or PARTITIONS
        arguments = (settings.name, settings.lease_ms, wanted)
        call = Call(ENTER, (self._keys.gateway, self._keys.settings), arguments)
        expected, before = 0.0, None
        while True:
            answer = await self._link.call(call)
            if answer[0] != FENCED:
                self._token = int(answer[0])
                self._partitions = check_partitions(self._keys, settings.partitions, answer[1])
                return
            left, holder = answer[1] / 1000, answer[2].decode()
            if before is not None and (holder != before or left > expected):
                raise ConnectionTaken(
                    f"The connection {settings.connection!r} has a gateway: {holder}."
                )
            seconds = min(left, settings.lease / 3) + 0.05
            expected, before = left - seconds / 2, holder
            await asyncio.sleep(seconds)

    async def leave(self) -> None:
        """Give the lease back."""
        with suppress(Unreachable, Refused):
            await self._link.call(Call(LEAVE, (self._keys.gateway,), (self._settings.name,)))

    async def open(self) -> None:
        """Shut out the gateways before this one. Raises as `enter`."""
        settings = self._settings
        identity = Identity(settings, self._token)
        keys = [PartitionKeys.of(settings.connection, n) for n in range(self._partitions)]
        calls = [open_call(each, identity) for each in keys]
        answers = await self._link.run(calls, settings.replicas)
        if FENCED in answers:
            raise ConnectionTaken(
                f"Another gateway took the connection {settings.connection!r} just now."
            )
        for each, answer in zip(keys, answers, strict=True):
            if isinstance(answer, Refused):
                raise RedisServerError(f"Redis refuses to begin: {answer}")
            is_open = not isinstance(answer, Unanswered)
            doubt = entry_id(answer) if is_open else None
            left = self._stored
            self._inlets.append(Inlet(each, identity, self, left, is_open=is_open))
            self._outlets.append(Outlet(each, identity, self, doubt, self._deliver, self._counts))

    # Running

    async def run(self, serve: Callable[[], Awaitable[None]], seconds: Callable[[], float]) -> None:
        """Carry messages while ``serve`` runs, then for so many seconds what is left of them."""
        listener = self._link.listen({self._keys.outgoing}, self._heard)
        tasks = [
            asyncio.ensure_future(each)
            for each in (
                *(self._guarded(self._pump.run()), self._guarded(self._keep())),
                self._guarded(listener.run()),
            )
        ]
        self._backlog.open(self._put)
        self.look()
        try:
            await serve()
        finally:
            try:
                await asyncio.gather(*(each.end() for each in self._outlets))
                self._backlog.close()
                with suppress(TimeoutError, RedisServerError):
                    async with asyncio.timeout(seconds()):
                        await self._backlog.all_stored()
            finally:
                self._end_backlog()
                await end(tasks)
                if self._failure.done():
                    self._failure.exception()  # it was raised by `until_it_fails`, if in time

    async def until_it_fails(self) -> None:
        """Wait until cancelled, or raise what ends the session."""
        await asyncio.wait({self._failure})  # which does not cancel it, unlike awaiting it
        self._failure.result()

    def fail(self, error: Exception) -> None:
        """Have the run end with an error."""
        if self._failure.done():
            return
        self._failure.set_exception(error)
        self._backlog.close(error if isinstance(error, RedisServerError) else None)
        self._end_backlog()

    async def _guarded(self, running: Coroutine[Any, Any, None]) -> None:
        try:
            await running
        except Exception as error:
            self.fail(error)

    def _end_backlog(self) -> None:
        self._backlog.end([item for inlet in self._inlets for item in inlet.drained()])

    async def _keep(self) -> None:
        """Renew the lease, and delete what was delivered."""
        settings = self._settings
        arguments = (settings.name, settings.lease_ms, self._partitions, self._token)
        calls = [
            Call(KEEP, (self._keys.gateway, self._keys.settings), arguments),
            *(each.tidy_call() for each in self._outlets),
        ]
        backoff = Backoff(most=max(0.05, min(3.0, settings.lease / 3)))
        while True:
            try:
                answer = (await self._link.run(calls))[0]
            except Unreachable as error:
                answer = error
            if answer == FENCED:
                raise ConnectionTaken(
                    f"Another gateway took the connection {settings.connection!r}."
                )
            self.look()
            if isinstance(answer, Unreachable | Refused):
                logger.warning("The lease of the gateway was not renewed: %s", answer)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                await asyncio.sleep(settings.lease / 3)

    # Events and messages

    def look(self) -> None:
        """There may be events in every partition."""
        for each in self._outlets:
            each.look()

    def _heard(self, channel: str, text: str) -> None:
        if not text:
            self.look()
        elif text.isdecimal() and int(text) < len(self._outlets):
            self._outlets[int(text)].look()

    def mark(self, station: Station) -> None:
        self._pump.mark(station)

    def _put(self, item: Item) -> None:
        self._inlets[partition_of(item.scope_id, len(self._inlets))].put(item)

    def _stored(self, item: Item) -> None:
        self._counts.stored += 1
        self._backlog.left(item)
