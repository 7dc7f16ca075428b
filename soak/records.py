"""What the three processes tell each other, and what ends up in ``results.json``.

The process under test answers with `Snapshot`; the load writes a `Ledger`; the one that runs both
puts them together in a `Run`, from which alone the verdict and the report are made. All are plain
data: `to_json` and `from_json` are each other's inverse.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Caused", "Ledger", "Plain", "Run", "Sample", "Served", "Snapshot", "Tally"]


@dataclass(slots=True)
class Served:
    """How many calls of the application of one kind began and ended."""

    begun: int = 0
    ended: int = 0


@dataclass(slots=True)
class Snapshot:
    """What the process under test holds, counted by itself after gc and malloc_trim."""

    seconds: float = 0.0  #: since the run's beginning; set by the one who asked
    threads: int = 0
    descriptors: int = 0
    children: int = 0
    tasks: int = 0  #: that are not done
    loops: int = 0  #: that are not closed
    objects: int = 0  #: that the garbage collector knows
    blocks: int = 0  #: of Python's own allocator, small objects of any kind
    heap_kb: int = 0  #: that malloc has given out
    rss_kb: int = 0
    types: dict[str, int] = field(default_factory=dict)  #: objects by type
    thread_names: list[str] = field(default_factory=list)
    served: dict[str, Served] = field(default_factory=dict)
    heard: int = 0  #: websocket messages
    said: int = 0  #: answers to them

    @property
    def requests(self) -> int:
        return sum(each.ended for each in self.served.values())


@dataclass(slots=True)
class Sample:
    """What could be seen of the process from outside, under load."""

    seconds: float
    threads: int
    descriptors: int
    rss_kb: int


@dataclass(slots=True)
class Caused:
    """A log record that a request has caused: who logs it, and the exception that it tells."""

    mark: str
    logger: str
    exception: str


@dataclass(slots=True)
class Tally:
    """The requests, or websocket messages, of one kind. The load's three outcomes are exclusive."""

    sent: int = 0
    answered: int = 0
    cut: int = 0  #: by the load, on purpose, before the answer was complete
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.sent += other.sent
        self.answered += other.answered
        self.cut += other.cut
        self.failures += other.failures


@dataclass(slots=True)
class Plain:
    """What wrk has done. It cuts the requests under way at its end: up to one a connection."""

    answered: int = 0
    failed: int = 0
    may_be_cut: int = 0
    said: str = ""


@dataclass(slots=True)
class Ledger:
    """What the load did."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    messages: Tally = field(default_factory=Tally)
    plain: Plain = field(default_factory=Plain)
    caused: list[Caused] = field(default_factory=list)
    orders_answered: list[str] = field(default_factory=list)
    orders_cut: list[str] = field(default_factory=list)
    #: When each answer came, in seconds since the epoch, and after how many.
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def tally(self, kind: str) -> Tally:
        return self.tallies.setdefault(kind, Tally())

    def add(self, other: Ledger) -> None:
        for kind, tally in other.tallies.items():
            self.tally(kind).add(tally)
        self.messages.add(other.messages)
        self.plain.answered += other.plain.answered
        self.plain.failed += other.plain.failed
        self.plain.may_be_cut += other.plain.may_be_cut
        self.plain.said += other.plain.said
        self.caused += other.caused
        self.orders_answered += other.orders_answered
        self.orders_cut += other.orders_cut
        self.latencies += other.latencies

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Ledger:
        return ledger_from(json.loads(path.read_text(encoding="utf-8")))


@dataclass(slots=True)
class Run:
    """Everything that is known of a run."""

    began: float  #: seconds since the epoch
    seconds: float  #: of load, warm-up included
    ledger: Ledger  #: of the whole run
    started: Snapshot  #: before the first request
    warm: Snapshot  #: after warm-up, everything settled
    pauses: list[Snapshot]  #: short ones between stretches of load, at equal distances
    end: Snapshot  #: after the load, everything settled
    samples: list[Sample]
    loads: list[tuple[float, float]]  #: when each stretch of load began and ended, warm-up first
    log: list[dict[str, str]]  #: records at the level of a warning or above
    orders: list[str]  #: the rows that the database holds at the end
    stderr: str
    exit_status: int
    machine: str


def snapshot_from(data: dict[str, Any]) -> Snapshot:
    served = {kind: Served(**each) for kind, each in data.pop("served").items()}
    return Snapshot(**data, served=served)


def ledger_from(data: dict[str, Any]) -> Ledger:
    return Ledger(
        tallies={kind: Tally(**each) for kind, each in data["tallies"].items()},
        messages=Tally(**data["messages"]),
        plain=Plain(**data["plain"]),
        caused=[Caused(**each) for each in data["caused"]],
        orders_answered=data["orders_answered"],
        orders_cut=data["orders_cut"],
        latencies=[(when, took) for when, took in data["latencies"]],
    )
