"""Compare a run with the stored one, case by case, and report changes that exceed the noise.

Each case is compared by its samples, one per round: ratios, which are far more stable from day to
day than times, or kilobytes for growth. A case has changed if the intervals of the two medians
(`record.interval_of_median`) do not overlap. Rounds do not show noise that lasts for a whole run;
only a second run does. Cases that are only noted are not compared.
"""

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from record import Kind, Measured, Record, Table

__all__ = ["Change", "Direction", "changes", "report"]


class Direction(enum.Enum):
    BETTER = "**better**"
    WORSE = "**WORSE**"
    NOISE = "within the noise"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Change:
    table: Table
    case: str
    then: Measured | None
    now: Measured | None

    @property
    def direction(self) -> Direction:
        if self.then is None:
            return Direction.NEW
        if self.now is None:
            return Direction.GONE
        (low_then, high_then), (low_now, high_now) = self.then.interval, self.now.interval
        if low_now <= high_then and low_then <= high_now:
            return Direction.NOISE
        rose = low_now > high_then
        return Direction.BETTER if rose is more_is_better(self.table) else Direction.WORSE


def more_is_better(table: Table) -> bool:
    return table.kind is not Kind.GROWTH


def changes(then: Record, now: Record) -> list[Change]:
    """Return every case of both runs in the order of the later one, removed cases last."""
    old = {(table.title, case.name): (table, case) for table, case in cases_of(then)}
    found = []
    for table, case in cases_of(now):
        _, before = old.pop((table.title, case.name), (table, None))
        found.append(Change(table, case.name, before, case))
    return found + [Change(table, case.name, case, None) for table, case in old.values()]


def cases_of(record: Record) -> Iterator[tuple[Table, Measured]]:
    for table in record.tables:
        if table.kind is not Kind.NOTED:
            for case in table.cases:
                yield table, case


def median_and_interval(table: Table, case: Measured | None) -> str:
    if case is None:
        return "none"
    unit = f" {table.unit}" if table.kind is Kind.GROWTH else ""
    low, high = case.interval
    return f"{case.ratio:.3g} ({low:.3g} to {high:.3g}){unit}"


def report(then: Record, now: Record) -> str:
    """Return a table of both runs, with a sentence if they come from different machines."""
    lines = [
        f"| {now.name}, ratio and its interval | {then.date} | now | |",
        "|---|---|---|---|",
    ]
    found = changes(then, now)
    times = Counter(change.case for change in found)
    for change in found:
        name = change.case if times[change.case] == 1 else f"{change.case}, {change.table.title}"
        table, before, after = change.table, change.then, change.now
        pair = f"{median_and_interval(table, before)} | {median_and_interval(table, after)}"
        lines.append(f"| {name} | {pair} | {change.direction.value} |")
    text = "\n".join(lines)
    if (then.machine, then.conditions) != (now.machine, now.conditions):
        return f"{text}\n\n{differs(then)} {differs(now)} This alone may be what changed."
    return text


def differs(record: Record) -> str:
    return f"{record.date}: {record.machine}, {record.conditions}."
