"""The partitions that a worker holds: finding its share, renewing the leases, handing over.

Once in a third of the lease, and whenever another worker comes, leaves or gives something back, a
worker says that it lives, renews what it holds, and compares that with its share. If it holds too
many, it drains some and gives them back; if too few, it looks which are free and takes as many as
it lacks. Nobody takes from anybody.

A partition is taken again only when the applications that it was lost with have ended.

In a cluster a node can be away. A round then does everything that it can do with the others, and
fails at its end, so that the next one comes soon.
"""

import asyncio
import logging
import random
from typing import Any, Protocol

from . import _lease_calls as calls
from ._attempts import Inheritance
from ._backoff import Backoff
from ._client import Link, Refused, Unanswered
from ._errors import Unreachable
from ._keys import ConnectionKeys, GroupKeys, PartitionKeys
from ._listener import Listener
from ._partition import Host, Partition, State
from ._settings import WorkerSettings
from ._shares import share_of
from ._worker_scripts import FENCED

logger = logging.getLogger("asgiref.redis")


class HoldingHost(Host, Protocol):
    """What the holdings need of their worker."""

    def has_ended(self, number: int) -> bool: ...


class Holdings:
    """The partitions of one worker.

    Attributes:
        held: by number; each is ours until it is lost or released.
        members: the workers of the group, as of the last look.
        rounds: how often everything has been renewed.
    """

    def __init__(
        self, link: Link, partitions: int, settings: WorkerSettings, drain: float, host: HoldingHost
    ) -> None:
        self._link = link
        self._settings = settings
        self._drain = drain
        self._host = host
        keys = ConnectionKeys.of(settings.connection)
        self._members_key = keys.members(settings.group)
        self._groups_key = keys.groups
        self._keys: list[GroupKeys] = [
            PartitionKeys.of(settings.connection, number).group(settings.group)
            for number in range(partitions)
        ]
        self.held: dict[int, Partition] = {}
        self.members: list[str] = []
        self._by_channel = {keys.partition.incoming: n for n, keys in enumerate(self._keys)}
        self._listener: Listener = link.listen({self._members_key}, self._heard)
        self._nudged = asyncio.Event()
        self._handing_over: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._releasing: set[int] = set()
        self._lost_in_time: set[int] = set()
        self._leaving = False
        self._in_round = asyncio.Lock()
        self.rounds: int = 0

    # Messages on channels

    async def listen(self) -> None:
        """Hear of new entries and of other workers, until cancelled."""
        await self._listener.run()

    def _heard(self, channel: str, text: str) -> None:
        if channel == self._members_key:
            if text != self._settings.member:
                self._nudged.set()
            return
        partition = self.held.get(self._by_channel.get(channel, -1))
        if partition is not None:
            partition.look()

    # The rounds

    async def run(self) -> None:
        """Keep the share until cancelled."""
        backoff = Backoff()
        while True:
            self._nudged.clear()
            try:
                async with self._in_round:
                    await self._round()
                backoff.reset()
            except (Unreachable, Refused) as error:
                seconds = backoff.next()
                logger.warning("%s Trying again in %.1f s.", error, seconds)
                await asyncio.sleep(seconds)
                continue
            await self._wait_for_next_round()

    async def _wait_for_next_round(self) -> None:
        waiting = asyncio.ensure_future(self._nudged.wait())
        try:
            await asyncio.wait({waiting}, timeout=self._settings.lease / 3)
        finally:
            waiting.cancel()

    async def _round(self) -> None:
        missing = [*await self._renew(), *await self._join()]
        self.rounds += 1
        if not self._leaving:
            missing += await self._balance()
        if missing:
            raise missing[0]

    async def _balance(self) -> list[Unanswered]:
        """Give back what is too much, take what is too little; give the missing answers."""
        mine = [each for each in self.held.values() if each.state is State.HELD]
        share = share_of(self._settings.member, self.members, len(self._keys))
        if len(mine) > share:
            for partition in sorted(mine, key=lambda each: each.number)[share:]:
                self.hand_over(partition)
        elif len(self.held) < share:
            return await self._acquire(share - len(self.held))
        return []

    async def _join(self) -> list[Unanswered]:
        """Say that this worker lives. Without an answer the members are those of the last one."""
        if self._leaving:
            return []
        call = calls.join(self._settings, self._members_key, self._groups_key)
        try:
            self.members = [name.decode() for name in await self._link.call(call)]
        except Unanswered as error:
            return [error]
        return []

    async def _renew(self) -> list[Unanswered]:
        held = list(self.held.values())
        if not held:
            return []
        deadline = self._deadline()
        answers = await self._link.run(
            [calls.renew(self._settings, each.keys, each.lease) for each in held]
        )
        for partition, answer in zip(held, answers, strict=True):
            if not isinstance(answer, Unanswered):
                self._renewed(partition, answer, deadline)
        return _missing(answers)

    def _deadline(self) -> float:
        """When a lease that is asked for now may be over. (A tenth less: clocks differ.)"""
        return asyncio.get_running_loop().time() + 0.9 * self._settings.lease

    def _renewed(self, partition: Partition, answer: Any, deadline: float) -> None:
        if not partition.is_ours:
            return
        if isinstance(answer, Refused) or answer == FENCED:
            partition.lose(f"its lease was not renewed ({answer})")
            return
        partition.deadline = deadline
        partition.pending, partition.lag = answer
        if partition.lag:
            partition.look()

    def _watch(self, partition: Partition) -> None:
        """Have the partition lost when its lease may be over."""
        loop = asyncio.get_running_loop()
        if loop.time() >= partition.deadline:
            partition.lose("its lease ran out")
        else:
            timer = loop.call_at(partition.deadline, self._watch, partition)
            self._timers[partition.number] = timer

    def ended(self, partition: Partition) -> None:
        """A partition has been lost or released."""
        if self.held.get(partition.number) is partition:
            del self.held[partition.number]
            timer = self._timers.pop(partition.number, None)
            if timer is not None:
                timer.cancel()
            if partition.was_lost_in_time:
                self._lost_in_time.add(partition.number)
            else:
                self._lost_in_time.discard(partition.number)
            self._listener.unsubscribe(partition.keys.partition.incoming)
            if partition.state is State.RELEASED:  # what is lost waits for the next round: taken
                self._nudged.set()  # again at once it might be lost again at once, for ever

    # More and fewer

    async def _acquire(self, wanted: int) -> list[Unanswered]:
        candidates = [
            keys
            for number, keys in enumerate(self._keys)
            if number not in self.held
            and number not in self._releasing
            and self._host.has_ended(number)
        ]
        random.shuffle(candidates)  # or all newcomers would try the same
        holders = await self._link.run([calls.holder(keys) for keys in candidates])
        missing = _missing(holders)
        free = self._free_of(candidates, holders)[:wanted]
        if not free:
            return missing
        asked = [
            calls.acquire(
                self._settings, keys, lost_in_time=keys.partition.number in self._lost_in_time
            )
            for keys in free
        ]
        deadline = self._deadline()
        answers = await self._link.run(asked, self._settings.replicas)
        for keys, answer in zip(free, answers, strict=True):
            if isinstance(answer, Refused):
                logger.error("Partition %d cannot be taken: %s", keys.partition.number, answer)
            elif answer != FENCED and not isinstance(answer, Unanswered):
                self._acquired(keys, answer, deadline)
        return missing + _missing(answers)

    def _free_of(self, candidates: list[GroupKeys], holders: list[Any]) -> list[GroupKeys]:
        """Those that nobody holds, or this worker without knowing: an answer may have got lost."""
        mine = f":{self._settings.member}".encode()
        return [
            keys
            for keys, holder in zip(candidates, holders, strict=True)
            if holder is None or (isinstance(holder, bytes) and holder.endswith(mine))
        ]

    def _acquired(self, keys: GroupKeys, answer: Any, deadline: float) -> None:
        lease, doubt, died, pending, failures = answer
        logger.debug(
            "Partition %d is taken: lease %s, pending %d, in doubt up to %s",
            *(keys.partition.number, lease.decode(), pending, doubt.decode()),
        )
        inheritance = Inheritance.of(doubt, died, failures)
        partition = Partition(
            keys, lease.decode(), inheritance, deadline, self._settings, self._host
        )
        partition.pending = pending
        self.held[partition.number] = partition
        self._listener.subscribe(keys.partition.incoming)
        self._watch(partition)
        partition.look()

    def hand_over(self, partition: Partition) -> None:
        """Begin to drain a partition and to give it back."""
        task = asyncio.get_running_loop().create_task(self._hand_over(partition))
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)

    async def _hand_over(self, partition: Partition) -> None:
        clean = await partition.drain(self._drain)
        logger.debug("Partition %d is given back, clean: %s", partition.number, clean)
        if partition.is_ours:
            call = calls.release(partition.keys, partition.lease, clean=clean)
            self._releasing.add(partition.number)  # its lease still has this worker's name
            partition.released()
            try:
                await self._link.call(call)
                await self._link.command("PUBLISH", self._members_key, self._settings.member)
            except (Unreachable, Refused) as error:
                logger.warning("Partition %d will expire: %s", partition.number, error)
            finally:
                self._releasing.discard(partition.number)
                self._nudged.set()

    async def leave(self) -> None:
        """Give everything back, and be no member any more."""
        self._leaving = True
        async with self._in_round:  # what a round is about to get must be given back as well
            pass
        try:
            await self._link.call(calls.leave(self._settings, self._members_key))
        except (Unreachable, Refused) as error:
            logger.warning("The worker will be missed only when its lease is over: %s", error)
        for partition in list(self.held.values()):
            if partition.state is State.HELD:
                self.hand_over(partition)
        while self._handing_over:
            await asyncio.wait(self._handing_over)

    def close(self) -> None:
        """Stop everything at once."""
        for task in self._handing_over:
            task.cancel()
        for partition in list(self.held.values()):
            partition.lose("the worker ends")


def _missing(answers: list[Any]) -> list[Unanswered]:
    return [answer for answer in answers if isinstance(answer, Unanswered)]
