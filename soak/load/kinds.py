"""A kind of request: a name, a weight, and a coroutine that sends one."""

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
    """The process under test gave a wrong answer."""


def expect(answer: Answer, status: int, body: bytes | None = None) -> Outcome:
    """Raise `Unexpected` unless the answer is this one; a body of None matches any."""
    if answer.status != status or (body is not None and answer.body != body):
        raise Unexpected(f"answered {answer.status} {answer.body[:200]!r}, not {status}")
    return Outcome.ANSWERED


class Ask:
    """One request: its mark, and the means to send and record it."""

    _numbers = count()
    #: Makes the marks of successive load processes differ.
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
        """Return the connection that the sender keeps alive."""
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
    weight: int  #: how often each deck contains the kind
    do: Callable[[Ask], Awaitable[Outcome]]
    #: Whether its answers count towards the latencies.
    timed: bool = False
