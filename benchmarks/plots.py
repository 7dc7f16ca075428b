"""Draw records as bars in SVG, with the template `plots.svg.jinja`.

A bar of ratios starts at one, "as fast as the other side", and extends to the right if ours is
faster. All scales are logarithmic, so the bars for twice as fast and half as fast have the same
length. The vertical line is the target, the thin horizontal line the interval that contains the
median. The template's style sheet follows the reader's theme.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import jinja2
from record import Measured, Record, Table
from tables import figure, times

LEFT, RIGHT = 330, 770
SOURCE = Path(__file__).with_name("plots.svg.jinja").read_text("utf-8")
TEMPLATE = jinja2.Template(SOURCE, autoescape=True)


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    text: str
    color: int
    #: The interval of the median, and the target.
    marks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    bars: list[Bar]
    #: The value at which the bars start; 0 means half of the lowest value.
    origin: float = 0

    @property
    def start(self) -> float:
        return self.origin or min(bar.value for bar in self.bars) / 2

    def x(self, value: float) -> float:
        values = [value for bar in self.bars for value in (bar.value, *bar.marks)]
        low = math.log(min(self.start, *values))
        high = math.log(max(2 * self.start, *values))
        return round(LEFT + (RIGHT - LEFT) * (math.log(value) - low) / (high - low), 1)


def draw(record: Record, folder: Path) -> None:
    """Write a plot of a record's ratios, and one of the times of cases with peers."""
    compared = [table for table in record.tables if any(case.samples for case in table.cases)]
    peers = [contenders(table, case) for table in compared for case in table.cases if case.peers]
    plots = {record.name: [ratios(table) for table in compared], f"{record.name}-peers": peers}
    for name, groups in plots.items():
        if groups:
            plot = TEMPLATE.render(groups=groups) + "\n"
            (folder / f"{name}.svg").write_text(plot, "utf-8")


def ratios(table: Table) -> Group:
    bars = [
        Bar(each.name, each.ratio, times(each.ratio), not each.met, (*each.interval, each.target))
        for each in table.cases
    ]
    return Group(f"{table.title}: ratio, more is better", bars, 1)


def contenders(table: Table, case: Measured) -> Group:
    """Return a bar for each contender's time of one case."""
    found = {"here": case.ours, table.theirs: case.theirs or math.nan, **case.peers}
    bars = [
        Bar(name, took, figure(took, table.unit), color)
        for color, (name, took) in enumerate(found.items())
    ]
    return Group(case.name, bars)
