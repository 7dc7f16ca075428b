"""What was sent and what came back: every message once, in order, unless it says otherwise."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from pieces import Gateway


class Ledger:
    """Sends numbered messages to scopes through a gateway, and judges what comes back."""

    def __init__(self, gateway: Gateway, scopes: int) -> None:
        self.gateway = gateway
        self._scopes = [f"scope{number}" for number in range(scopes)]
        self._sent: dict[str, int] = defaultdict(int)
        self.heard: dict[str, list[tuple[int, bool]]] = defaultdict(list)
        self.events: list[dict[str, Any]] = []
        self.begun = asyncio.Event()

    async def send(self, rounds: int, seconds: float = 0) -> None:
        """One message to each scope, so many times, with so long between two rounds."""
        for _ in range(rounds):
            for scope_id in self._scopes:
                number = self._sent[scope_id]
                scope = {"type": "test", "id": scope_id}
                queue = self.gateway.get_or_create_application_instance(scope_id, scope)
                await queue.put({"type": "say", "number": number})
                self._sent[scope_id] += 1
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def sending(self, seconds: float = 0.03) -> AsyncIterator[None]:
        """Send during the block, one message to each scope after the other."""

        async def keep_sending() -> None:
            while not enough.is_set():
                await self.send(1, seconds)

        enough = asyncio.Event()
        task = asyncio.create_task(keep_sending())
        try:
            yield
            enough.set()
            await task
        finally:
            task.cancel()

    async def receive_from(self, *pids: int, tell: int = 1) -> None:
        """Until so many answers of each of these processes have come."""
        left = dict.fromkeys(pids, tell)
        while any(count > 0 for count in left.values()):
            pid = (await self.receive_one())["pid"]
            left[pid] = left.get(pid, 0) - 1

    async def receive_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            await self.receive_one()

    @property
    def sent(self) -> int:
        """How many messages the gateway has taken."""
        return sum(self._sent.values())

    @property
    def scopes(self) -> set[str]:
        return set(self._scopes)

    def answered(self, scopes: Iterable[str]) -> int:
        """How many messages of these scopes have an answer."""
        return sum(len({number for number, _ in self.heard[each]}) for each in scopes)

    def missing(self) -> int:
        return sum(
            count - len({number for number, _ in self.heard[scope_id]})
            for scope_id, count in self._sent.items()
        )

    async def receive_one(self) -> dict[str, Any]:
        scope, message, delivery = await self.gateway.sent.get()
        redelivered = message["redelivered"] or delivery.redelivered
        self.heard[scope["id"]].append((message["number"], redelivered))
        self.events.append(message)
        self.begun.set()
        return dict(message)

    async def receive_all(self) -> None:
        """Until an answer to every message has come."""
        while self.missing():
            await self.receive_one()

    def verify(self) -> int:
        """Every message, in order, and twice only where it says so; give the redelivered."""
        assert self.missing() == 0
        redelivered = 0
        for scope_id, count in self._sent.items():
            heard = self.heard[scope_id]
            seen: set[int] = set()
            first_times = [n for n, _ in heard if n not in seen and not seen.add(n)]  # type: ignore[func-returns-value]
            assert first_times == list(range(count)), scope_id
            unmarked = [number for number, again in heard if not again]
            assert len(unmarked) == len(set(unmarked)), (scope_id, heard)
            redelivered += len(heard) - len(unmarked)
        return redelivered

    def verify_fencing(self) -> None:
        """No holder of a partition is heard after the one that followed it."""
        latest: dict[int, int] = {}
        for event in self.events:
            token = event["token"]
            assert token >= latest.get(event["partition"], 0), event
            latest[event["partition"]] = token
