"""The plain records of a run: what the load saw, and what the process under test counted.

The process under test answers with a `Snapshot` as JSON. The load, which runs in the process that
measures, fills one `Ledger`. Both end up in a `SoakRun`, the only input of the verdict.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


@dataclass(slots=True)
class Snapshot:
    """The counts of the process under test, made by itself after gc and malloc_trim."""

    #: Threads, descriptors, children, tasks that are not done, loops that are not closed, objects
    #: that the garbage collector knows, blocks of Python's own allocator (for small objects of any
    #: kind), kB that malloc has handed out, kB of RSS.
    counts: Counter[str]
    thread_names: Counter[str]
    types: Counter[str]  #: objects by type
    started: Counter[str]  #: calls to the application by kind
    ended: Counter[str]
    messages: Counter[str]  #: of websockets: received, answered


class RequestOutcome(Enum):
    """How a request ended, as seen by the load."""

    ANSWERED = "answered"
    CUT = "cut by us"  #: or broken by us, so that the application need not see or answer it
    FAILED = "failed"


class Problem(NamedTuple):
    """A log record of a warning or worse: the mark of its request, its logger, its exception."""

    mark: str
    logger: str
    exception: str


@dataclass(slots=True)
class Ledger:
    """What the load sent, and how it ended."""

    requests: Counter[tuple[str, RequestOutcome]] = field(default_factory=Counter)  #: by kind
    failures: list[str] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)  #: sent, answered, cut on purpose
    caused: Counter[Problem] = field(default_factory=Counter)
    tolerated: set[Problem] = field(default_factory=set)
    orders_answered: set[str] = field(default_factory=set)
    orders_cut: set[str] = field(default_factory=set)

    def sent(self) -> Counter[str]:
        """Return the number of requests of each kind."""
        return Counter(kind for kind, _ in self.requests.elements())


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
