"""Sends numbers and checks the answers: none lost, in order, and no silent duplicates."""

import asyncio
from collections import defaultdict
from typing import Any

from asgiref.postgres import PostgresGateway


class Ledger:
    """The numbers that each scope has answered, starting with 0."""

    def __init__(self) -> None:
        self.sent: defaultdict[str, int] = defaultdict(int)
        self.answered: defaultdict[str, int] = defaultdict(int)
        self.redelivered = 0
        self.faults: list[str] = []

    def next_number(self, scope_id: str) -> int:
        self.sent[scope_id] += 1
        return self.sent[scope_id] - 1

    def answer(self, scope_id: str, number: int, redelivered: bool) -> None:
        expected = self.answered[scope_id]
        self.redelivered += redelivered
        if number == expected:
            self.answered[scope_id] += 1
        elif number > expected:
            self.faults.append(f"{scope_id}: {number} came, {expected} was expected")
        elif not redelivered:
            self.faults.append(f"{scope_id}: {number} came again, unmarked")

    def is_complete(self) -> bool:
        return self.sent == self.answered

    def check(self) -> None:
        assert not self.faults, self.faults[:10]
        missing = {
            scope_id: (self.answered[scope_id], number)
            for scope_id, number in self.sent.items()
            if self.answered[scope_id] != number
        }
        assert not missing, missing


class LedgerGateway(PostgresGateway):
    """Sends numbers to its scopes while ``may_send`` is true, and checks the answers."""

    def __init__(self, database: Any, *, scopes: int = 40, pause: float = 0.002) -> None:
        super().__init__(database)
        self.ledger = Ledger()
        self.may_send = True
        self._names = [f"scope{number}" for number in range(scopes)]
        self._pause = pause
        self.progress = asyncio.Condition()

    async def handle(self) -> None:
        while self.may_send:
            for name in self._names:
                queue = self.get_or_create_application_instance(name, {"type": "test"})
                await queue.put({"type": "count", "number": self.ledger.next_number(name)})
            await asyncio.sleep(self._pause * len(self._names))
            async with self.progress:  # send no more than a slow machine can answer
                await self.progress.wait_for(lambda: not self.may_send or self._waiting() < 1000)
        async with self.progress:
            await self.progress.wait_for(self.ledger.is_complete)

    async def application_send(self, scope: Any, message: Any) -> None:
        delivery = self.delivery
        self.ledger.answer(delivery.scope_id, message["number"], delivery.redelivered)
        async with self.progress:
            self.progress.notify_all()

    def _waiting(self) -> int:
        return sum(self.ledger.sent.values()) - sum(self.ledger.answered.values())

    async def has_lost_its_session(self) -> bool:
        """Whether the gateway has lost its session."""
        return not self.is_connected

    async def answers(self, count: int) -> None:
        """Wait for ``count`` more answers."""
        goal = sum(self.ledger.answered.values()) + count
        async with self.progress:
            await self.progress.wait_for(lambda: sum(self.ledger.answered.values()) >= goal)
