"""The record of a benchmark's run: figures, targets, and the machine that measured them.

Benchmarks write records, ``results/`` stores them, and other modules use them to print tables,
compare runs and draw plots. A record does not identify its user: it has no host names and no paths.
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

#: The confidence that an interval contains the median; see `interval_of_median`.
CONFIDENCE = 0.99


class Kind(enum.StrEnum):
    """The kind of figures in a table."""

    #: Times or sizes compared with asgiref 3.13; less is better.
    COST = "cost"
    #: Requests per second compared with others; more is better.
    RATE = "rate"
    #: Messages per second compared with another project (`Table.theirs`); more is better.
    THROUGHPUT = "throughput"
    #: Leftovers of many calls, without a comparison.
    GROWTH = "growth"
    #: Costs without a target or a comparison (`Measured.columns`).
    NOTED = "noted"


def interval_of_median(samples: list[float]) -> tuple[float, float]:
    """Return the interval of samples that contains the median of the underlying distribution.

    The interval depends only on the order of the samples, so it is valid for any distribution, also
    for timings, which have outliers on one side. It is as narrow as `CONFIDENCE` allows; with few
    samples it is their whole range.
    """
    ordered = sorted(samples)
    count, cut = len(ordered), 0
    while 2 * (cut + 1) < count and chance_beyond(cut + 1, count) <= 1 - CONFIDENCE:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


def chance_beyond(cut: int, count: int) -> float:
    """Return the probability that the median is outside the samples left after cutting both ends.

    A sample is below the median with a probability of one half, so the number below is binomial.
    """
    return 2 * sum(math.comb(count, below) for below in range(cut + 1)) / 2.0**count


@dataclass(frozen=True, slots=True)
class Measured:
    """One case. `ours` and `theirs` are medians in the table's unit."""

    name: str
    ours: float
    #: None without a comparison.
    theirs: float | None
    #: One value per round, by which runs are compared: a ratio (more is better), for growth the kB,
    #: or for noted figures the cost.
    samples: list[float]
    #: The minimum of the ratio; for growth, the total must be less than this many kB.
    target: float
    met: bool
    #: Limits of `ours` that are computed from the times of peers, by formula.
    bounds: dict[str, float] = field(default_factory=dict)
    note: str = ""
    #: Additional columns of the table, by heading with unit.
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
    #: Other measurements in our environment, in the same unit.
    peers: dict[str, float] = field(default_factory=dict)
    #: The project whose figures are in `Measured.theirs`.
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
    """Return the kernel's version without local suffixes, which may name the machine's owner."""
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
    #: The load that the benchmark itself put on the machine.
    conditions: str
    #: The load average of the minute before the run.
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
        # Keep a case's samples on one line, because each run changes all of them.
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
    """Round figures to four significant digits: further digits are noise."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {key: rounded(each) for key, each in value.items()}
        case list():
            return [rounded(each) for each in value]
        case _:
            return value
