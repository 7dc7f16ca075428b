"""The records that the three processes exchange, and that ``results.json`` is made from.

The process under test answers with a `Snapshot`; the load generator writes a `Ledger`; the process
that runs both combines them into a `Run`, the only input of the verdict and the report. All are
plain data: `to_json` and `from_json` are inverses.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Caused", "Ledger", "Plain", "Run", "Sample", "Served", "Snapshot", "Tally"]


@dataclass(slots=True)
class Served:
    """The number of application calls of one kind that started and that ended."""

    begun: int = 0
    ended: int = 0


@dataclass(slots=True)
class Snapshot:
    """The counts of the process under test, made by itself after gc and malloc_trim."""

    seconds: float = 0.0  #: since the start of the run; set by the process that asked
    threads: int = 0
    descriptors: int = 0
    children: int = 0
    tasks: int = 0  #: that are not done
    loops: int = 0  #: that are not closed
    objects: int = 0  #: that the garbage collector knows
    blocks: int = 0  #: of Python's own allocator, for small objects of any kind
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
    """A measurement of the process from outside, under load."""

    seconds: float
    threads: int
    descriptors: int
    rss_kb: int


@dataclass(slots=True)
class Caused:
    """A log record that a request caused: its logger, and the exception in it."""

    mark: str
    logger: str
    exception: str


@dataclass(slots=True)
class Tally:
    """The requests or websocket messages of one kind. The three outcomes are exclusive."""

    sent: int = 0
    answered: int = 0
    cut: int = 0  #: by the load generator, on purpose, before the answer was complete
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.sent += other.sent
        self.answered += other.answered
        self.cut += other.cut
        self.failures += other.failures


@dataclass(slots=True)
class Plain:
    """The work of wrk, which cuts the requests in flight at its end: up to one per connection."""

    answered: int = 0
    failed: int = 0
    may_be_cut: int = 0
    said: str = ""


@dataclass(slots=True)
class Ledger:
    """The account of the load generator."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    messages: Tally = field(default_factory=Tally)
    plain: Plain = field(default_factory=Plain)
    caused: list[Caused] = field(default_factory=list)
    orders_answered: list[str] = field(default_factory=list)
    orders_cut: list[str] = field(default_factory=list)
    #: The time of each answer, in seconds since the epoch, and its latency in seconds.
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
    """All data of a run."""

    began: float  #: seconds since the epoch
    seconds: float  #: of load, warm-up included
    ledger: Ledger  #: of the whole run
    started: Snapshot  #: before the first request
    warm: Snapshot  #: after warm-up, everything settled
    pauses: list[Snapshot]  #: taken in short pauses between stretches of load, at equal intervals
    end: Snapshot  #: after the load, everything settled
    samples: list[Sample]
    loads: list[tuple[float, float]]  #: start and end of each stretch of load, warm-up first
    log: list[dict[str, str]]  #: records of warnings and above
    orders: list[str]  #: the rows of the database at the end
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
