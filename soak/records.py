"""The plain records of a run: what the load saw, and what the process under test counted.

The process under test answers with a `Snapshot` as JSON. The load, which runs in the process that
measures, fills one `Ledger`. Both end up in a `SoakRun`, the only input of the verdict.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

__all__ = ["Ledger", "Problem", "RequestOutcome", "Snapshot", "SoakRun"]


@dataclass(slots=True)
class Snapshot:
    """The counts of the process under test, made by itself after gc and malloc_trim."""

    threads: int = 0
    descriptors: int = 0
    children: int = 0
    tasks: int = 0  #: that are not done
    loops: int = 0  #: that are not closed
    objects: int = 0  #: that the garbage collector knows
    blocks: int = 0  #: of Python's own allocator, for small objects of any kind
    heap_kb: int = 0  #: that malloc has given out
    rss_kb: int = 0
    thread_names: list[str] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)  #: objects by type
    started: Counter[str] = field(default_factory=Counter)  #: calls of the application by kind
    ended: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)  #: of websockets: received, answered


class RequestOutcome(Enum):
    """How a request ended, in the view of the load."""

    ANSWERED = "answered"
    CUT = "cut by us"  #: on purpose, before the answer was complete
    FAILED = "failed"


class Problem(NamedTuple):
    """A log record of a warning or worse: the mark of its request, its logger, its exception."""

    mark: str
    logger: str
    exception: str


@dataclass(slots=True)
class Ledger:
    """The account of the load."""

    requests: Counter[tuple[str, RequestOutcome]] = field(default_factory=Counter)  #: by kind
    failures: list[str] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)  #: sent, answered, cut
    caused: Counter[Problem] = field(default_factory=Counter)
    tolerated: set[Problem] = field(default_factory=set)
    orders_answered: set[str] = field(default_factory=set)
    orders_cut: set[str] = field(default_factory=set)

    def sent(self) -> Counter[str]:
        """Return the number of requests of each kind."""
        total: Counter[str] = Counter()
        for (kind, _), count in self.requests.items():
            total[kind] += count
        return total


@dataclass(slots=True)
class SoakRun:
    """All data of a run."""

    ledger: Ledger
    started: Snapshot  #: before the first request
    warm: Snapshot  #: after warm-up, everything settled
    pauses: list[Snapshot]  #: taken in short pauses of the load, at equal intervals
    end: Snapshot  #: after the load, everything settled
    log: list[tuple[Problem, str]]  #: records of warnings and above, with their text
    orders: list[str]  #: the rows of the database at the end
    stderr: str
    exit_status: int
