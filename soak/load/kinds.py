"""What a kind of request is: a name, how often it comes, and a coroutine that does one."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from itertools import count

from records import Caused, Ledger

from .http import Answer, Connection

__all__ = ["Ask", "Kind", "Outcome", "Unexpected", "expect"]


class Outcome(Enum):
    ANSWERED = "answered"
    CUT = "cut"


class Unexpected(Exception):
    """The process under test did not do what it should."""


def expect(answer: Answer, status: int, body: bytes | None = None) -> Outcome:
    """Raises `Unexpected` unless the answer is this one; None for any body."""
    if answer.status != status or (body is not None and answer.body != body):
        raise Unexpected(f"answered {answer.status} {answer.body[:200]!r}, not {status}")
    return Outcome.ANSWERED


class Ask:
    """One request: its mark, and what it needs to be sent and noted."""

    _numbers = count()
    #: Marks of successive load processes differ by it.
    prefix = ""

    def __init__(self, kind: Kind, port: int, ledger: Ledger, kept: Connection | None) -> None:
        self.kind = kind.name
        self.port = port
        self.mark = f"{self.prefix}{kind.name}-{next(self._numbers)}"
        self.headers = {"X-Soak-Mark": self.mark, "X-Soak-Kind": kind.name}
        self.ledger = ledger
        self._kept = kept

    @property
    def connection(self) -> Connection:
        """The connection that the sender keeps alive."""
        assert self._kept is not None
        return self._kept

    def causes(self, logger: str, exception: str) -> None:
        """Note a record that the process under test must log, once."""
        self.ledger.caused.append(Caused(self.mark, logger, exception))

    @staticmethod
    def heads() -> bool:
        return random.random() < 0.5


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    weight: int  #: how many of them are in a deck that is dealt again and again
    do: Callable[[Ask], Awaitable[Outcome]]
    #: Whether its answers count for the latencies.
    timed: bool = False
