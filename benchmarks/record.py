"""The record of a benchmark run: figures, targets, and the machine that measured them.

Benchmarks make records, ``results/`` stores them, and the tables and plots show them. A record does
not identify its user: it has no host names and no paths.
"""

import datetime
import json
import math
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyperf

Figures = Sequence[float]


def interval_of_median(samples: Figures) -> tuple[float, float]:
    """Return the interval of samples that contains the median of the underlying distribution.

    The interval depends only on the order of the samples, so it is valid for any distribution,
    including timings, which have outliers on one side. It is as narrow as a confidence of 99 %
    allows; with few samples it is their whole range.
    """
    ordered, count, cut, beyond = sorted(samples), len(samples), 0, 2.0
    # A sample is below the median with a probability of one half, so the number below is binomial.
    while (beyond := beyond + 2 * math.comb(count, cut + 1)) <= 0.01 * 2**count:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


@dataclass(frozen=True, slots=True)
class Measured:
    """One case. `ours` and `theirs` are medians in the table's unit."""

    name: str
    ours: float
    met: bool = True
    #: None if nothing is compared.
    theirs: float | None = None
    #: The ratio of each round; more is better.
    samples: list[float] = field(default_factory=list)
    #: The minimum of the ratio.
    target: float = 0
    #: The maxima of `ours`, by formula.
    limits: dict[str, float] = field(default_factory=dict)
    #: The times of other projects in our environment, by name.
    peers: dict[str, float] = field(default_factory=dict)
    #: The cells of the table, by heading, for a case that does not show the two medians.
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return statistics.median(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        return interval_of_median(self.samples)


def compared(name: str, ours: Figures, theirs: Figures, target: float, **more: Any) -> Measured:
    """Compare the times of two sides, which were measured in the same rounds."""
    ratios = [other / mine for mine, other in zip(ours, theirs, strict=True)]
    median, limits = statistics.median(ours), more.get("limits", {})
    met = statistics.median(ratios) >= target and all(median <= each for each in limits.values())
    return Measured(name, median, met, statistics.median(theirs), ratios, target, **more)


def compared_rates(name: str, ours: Figures, theirs: Figures, target: float) -> Measured:
    """Compare the rates of two sides, where more is better."""
    case = compared(name, theirs, ours, target)
    return Measured(name, case.theirs or 0, case.met, case.ours, case.samples, target)


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    unit: str
    cases: list[Measured]
    #: Other measurements in our environment, in the same unit.
    peers: dict[str, float] = field(default_factory=dict)
    #: The project whose figures are in `Measured.theirs`.
    theirs: str = "asgiref 3.13"


def this_machine() -> str:
    cpu = pyperf.Run([1.0]).get_metadata().get("cpu_model_name", platform.machine())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    # A kernel's local suffix may name the machine's owner.
    kernel = "".join(re.findall(r"^[\d.]*\d", platform.release()))
    return f"{python}, {cpu}, {os.cpu_count()} cores, {platform.system()} {kernel}"


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
    machine: str = field(default_factory=this_machine)
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    def __str__(self) -> str:
        rounds = f"Medians of {self.rounds} alternating rounds, " if self.rounds > 1 else ""
        when = f"{self.date}, {self.machine}; {self.conditions}; load {self.load:.1f} before"
        return rounds + when

    def write(self, path: Path) -> None:
        def rounded(text: str) -> float:
            return float(f"{float(text):.4g}")  # further digits are noise

        content = json.loads(json.dumps(asdict(self)), parse_float=rounded)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        # Keep a case's samples on one line, because each run changes all of them.
        text = re.sub(r"\[[-\d.e,\s]+\]", lambda found: " ".join(found[0].split()), text)
        path.write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> "Record":
        content = json.loads(path.read_text("utf-8"))
        for table in content["tables"]:
            table["cases"] = [Measured(**case) for case in table["cases"]]
        content["tables"] = [Table(**table) for table in content["tables"]]
        return cls(**content)
