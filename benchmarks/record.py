"""What a run of one benchmark leaves: figures, targets, and the machine that they are of.

The records are written by the benchmarks, stored in ``results/``, and read by what prints tables,
compares runs, and draws. A record says nothing of who ran it: no host names, no paths.
"""

import datetime
import enum
import json
import math
import os
import platform
import re
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Kind", "Machine", "Measured", "Record", "Table", "interval_of_median"]

#: How sure an interval is to hold the median; see `interval_of_median`.
CONFIDENCE = 0.99


class Kind(enum.StrEnum):
    """What the figures of a table are."""

    #: Times or sizes, of which less is better, beside asgiref 3.13's.
    COST = "cost"
    #: Requests a second, of which more is better, beside those of others.
    RATE = "rate"
    #: Messages a second, of which more is better, beside another's (`Table.theirs`).
    THROUGHPUT = "throughput"
    #: What is there after many calls and was not before; nothing of others stands beside it.
    GROWTH = "growth"
    #: Costs without a target, as they are (`Measured.columns`).
    NOTED = "noted"


def interval_of_median(samples: list[float]) -> tuple[float, float]:
    """Return between which samples the median of all possible samples lies.

    The interval comes from the samples' order alone, so it holds however they are spread, with
    outliers on one side as timings have them. It is as narrow as `CONFIDENCE` allows; few samples
    allow no more than their whole range.
    """
    ordered = sorted(samples)
    count, cut = len(ordered), 0
    while 2 * (cut + 1) < count and chance_beyond(cut + 1, count) <= 1 - CONFIDENCE:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


def chance_beyond(cut: int, count: int) -> float:
    """How likely the median is outside of what is left when so many are cut from both ends.

    A sample is below the median with a chance of one half, so the number below is binomial.
    """
    return 2 * sum(math.comb(count, below) for below in range(cut + 1)) / 2.0**count


@dataclass(frozen=True, slots=True)
class Measured:
    """One case. `ours` and `theirs` are medians in the table's unit."""

    name: str
    ours: float
    #: None where nothing of others stands beside it.
    theirs: float | None
    #: Round by round, what runs are compared by: ratios (more is better), or for growth kB. Of what
    #: is only noted, the cost.
    samples: list[float]
    #: At least so large a ratio; for growth: less than so many kB in all.
    target: float
    met: bool
    #: Limits of `ours` that follow from what peers took, by what they are made of.
    bounds: dict[str, float] = field(default_factory=dict)
    note: str = ""
    #: What a table shows as it is, by heading with unit.
    columns: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return statistics.median(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        return interval_of_median(self.samples)


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    kind: Kind
    unit: str
    cases: list[Measured]
    #: What else was measured in our environment, in the same unit.
    peers: dict[str, float] = field(default_factory=dict)
    #: Whose figures `Measured.theirs` are.
    theirs: str = "asgiref 3.13"


@dataclass(frozen=True, slots=True)
class Machine:
    python: str
    cpu: str
    cores: int
    kernel: str

    @classmethod
    def here(cls) -> "Machine":
        return cls(
            f"{platform.python_implementation()} {platform.python_version()}",
            cpu_model(),
            os.cpu_count() or 1,
            f"{platform.system()} {kernel_version()}",
        )

    def __str__(self) -> str:
        return f"{self.python}, {self.cpu}, {self.cores} cores, {self.kernel}"


def kernel_version() -> str:
    """The version without what the machine's owner appended: that may name the owner."""
    version = re.match(r"[\d.]*\d", platform.release())
    return version[0] if version else ""


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@dataclass(frozen=True, slots=True)
class Record:
    """One run of one benchmark."""

    name: str
    subject: str
    tables: list[Table]
    rounds: int
    #: What the machine did beside it, on purpose.
    conditions: str
    #: How busy the machine was in the minute before.
    load: float
    machine: Machine = field(default_factory=Machine.here)
    date: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat()
    )

    @property
    def met(self) -> bool:
        return all(case.met for table in self.tables for case in table.cases)

    def write(self, path: Path) -> None:
        text = json.dumps(rounded(asdict(self)), indent=1, ensure_ascii=False)
        # A case's samples belong on one line: each run changes all of them.
        text = re.sub(r"\[[-\d.,\s]+\]", lambda found: " ".join(found[0].split()), text)
        path.write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> "Record":
        described = json.loads(path.read_text("utf-8"))
        tables = [table_from(each) for each in described.pop("tables")]
        machine = Machine(**described.pop("machine"))
        return cls(tables=tables, machine=machine, **described)


def table_from(described: dict[str, Any]) -> Table:
    cases = [Measured(**each) for each in described.pop("cases")]
    return Table(cases=cases, kind=Kind(described.pop("kind")), **described)


def rounded(value: Any) -> Any:
    """Figures to four significant digits: what is beyond changes with every round."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {key: rounded(each) for key, each in value.items()}
        case list():
            return [rounded(each) for each in value]
        case _:
            return value
