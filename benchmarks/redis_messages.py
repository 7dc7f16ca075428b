"""What `redis_streams` and the processes that it measures have in common. Linux only.

A message has a number, which only grows, and no process says anything to another one while
messages go: when each was sent and received stands in memory that they share, by its number. A
writer touches only its own cells, and the clock is the machine's. So watching costs nobody
anything, whoever carries the messages, and the time that processes take to begin is in no figure.
"""

import asyncio
import enum
import mmap
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

__all__ = ["Case", "Order", "Times", "Way", "paced"]

#: Messages that one way can carry in one case.
CAPACITY = 1 << 21


class Way(enum.StrEnum):
    """Who carries the messages."""

    OURS = "here"
    BARE = "bare streams"
    CHANNELS = "Channels"


@dataclass(frozen=True, slots=True)
class Case:
    workers: int
    scopes: int

    def __str__(self) -> str:
        many = "" if self.workers == 1 else "s"
        return f"{self.workers} worker{many}, {self.scopes:,} scopes"


@dataclass(frozen=True, slots=True)
class Order:
    """What a producer is to send; a `rate` of 0 is as fast as it can."""

    first: int
    messages: int
    rate: float

    def __str__(self) -> str:
        return f"{self.first} {self.messages} {self.rate}"

    @classmethod
    def read(cls, line: str) -> "Order":
        first, messages, rate = line.split()
        return cls(int(first), int(messages), float(rate))


class Times:
    """When each message was sent and received, in seconds; 0 if it was not.

    Attributes:
        sent, received: by the number of the message.
        again: how often it was received after the first time.
        descriptor: for a process that is to have the same.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        size = 3 * CAPACITY * 8
        if descriptor is None:
            descriptor = os.memfd_create("times")
            os.ftruncate(descriptor, size)
        self.descriptor = descriptor
        cells = memoryview(mmap.mmap(descriptor, size)).cast("d")
        self.sent = cells[:CAPACITY]
        self.received = cells[CAPACITY : 2 * CAPACITY]
        self.again = cells[2 * CAPACITY :]

    def receive(self, number: int) -> None:
        """The application has the message."""
        if self.received[number]:
            self.again[number] += 1
        else:
            self.received[number] = time.monotonic()

    def missing(self, order: Order, known: int = 0) -> int | None:
        """The first message that was not received, from the one that is `known` to be next on."""
        for number in range(max(known, order.first), order.first + order.messages):
            if not self.received[number]:
                return number
        return None

    def seconds(self, order: Order) -> float:
        """From the moment in which the first message was due to the last receipt."""
        lot = slice(order.first, order.first + order.messages)
        return max(self.received[lot]) - self.sent[order.first]

    def latencies(self, order: Order) -> list[float]:
        lot = slice(order.first, order.first + order.messages)
        return [
            there - here for here, there in zip(self.sent[lot], self.received[lot], strict=True)
        ]

    def duplicates(self, order: Order) -> int:
        return int(sum(self.again[order.first : order.first + order.messages]))


async def paced(order: Order, times: Times) -> AsyncIterator[tuple[int, bool]]:
    """Give the number of each message when it is due, and whether the next one is due as well.

    With a rate a message counts as sent when it was due, not when its turn came: a sender that does
    not keep up makes its messages late, and not fewer.
    """
    begin = time.monotonic()

    def due(count: int) -> float:
        return begin + count / order.rate if order.rate else time.monotonic()

    for count in range(order.messages):
        at = due(count)
        if (wait := at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        times.sent[order.first + count] = at
        more = count + 1 < order.messages and due(count + 1) <= time.monotonic()
        yield order.first + count, more
