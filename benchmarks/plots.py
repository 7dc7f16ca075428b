"""Draw records as bars in SVG. The style sheet `plots.css` follows the reader's theme.

A bar of ratios starts at one, "as fast as the other side", and extends to the right if ours is
faster. All scales are logarithmic, so the bars for twice as fast and half as fast have the same
length. The upright line is the target, the thin horizontal line the interval that contains the
median.
"""

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from record import Measured, Record, Table
from tables import figure, others, times

LEFT, RIGHT, WIDTH, ROW = 330, 770, 860, 24
STYLE = Path(__file__).with_name("plots.css").read_text("utf-8")


class Bar(NamedTuple):
    label: str
    value: float
    text: str
    color: int
    #: The interval of the median, and the target.
    marks: tuple[float, ...] = ()


def draw(record: Record, folder: Path) -> None:
    """Write a plot of the ratios of a record, and one for each table of several contenders."""
    compared = [table for table in record.tables if any(case.samples for case in table.cases)]
    if compared:
        groups = [(f"{table.title}: ratio, more is better", ratios(table)) for table in compared]
        (folder / f"{record.name}.svg").write_text(chart(groups, 1), "utf-8")
    for table in filter(others, compared):
        groups = [(case.name, list(contenders(table, case))) for case in table.cases]
        (folder / f"{record.name}-peers.svg").write_text(chart(groups), "utf-8")


def ratios(table: Table) -> list[Bar]:
    return [
        Bar(each.name, each.ratio, times(each.ratio), not each.met, (*each.interval, each.target))
        for each in table.cases
    ]


def contenders(table: Table, case: Measured) -> Iterable[Bar]:
    """Return a bar for each contender's time of one case."""
    found = {"here": case.ours, table.theirs: case.theirs or math.nan}
    found |= {other: table.peers[f"{other}, {case.name}"] for other in others(table)}
    for color, (name, took) in enumerate(found.items()):
        yield Bar(name, took, figure(took, table.unit), color)


def chart(groups: Sequence[tuple[str, list[Bar]]], origin: float | None = None) -> str:
    """Return a plot; without an origin, bars start at half of the lowest value of their group."""
    parts, y = [], 0
    for title, bars in groups:
        values = [value for bar in bars for value in (bar.value, *bar.marks)]
        start = origin or min(values) / 2
        low, high = math.log(min(start, *values)), math.log(max(2 * start, *values))

        def x(value: float, low: float = low, high: float = high) -> float:
            return round(LEFT + (RIGHT - LEFT) * (math.log(value) - low) / (high - low), 1)

        y += ROW
        parts.append(f'<text class="title" x="{x(start)}" y="{y}">{plain(title)}</text>')
        parts.append(f'<path class="axis" d="M{x(start)} {y + 10}v{ROW * len(bars)}"/>')
        for bar in bars:
            y += ROW
            left, right = sorted((x(start), x(bar.value)))
            parts.append(f'<text class="label" x="{LEFT - 10}" y="{y}">{plain(bar.label)}</text>')
            parts.append(
                f'<rect class="c{bar.color:d}" x="{left}" y="{y - 7}" width="{right - left:.1f}"'
                ' height="14"/>'
            )
            if bar.marks:
                begin, end, target = map(x, bar.marks)
                parts.append(f'<path class="noise" d="M{begin} {y}H{end}"/>')
                parts.append(f'<path class="target" d="M{target} {y - 9}v18"/>')
            end = x(max(start, bar.value, *bar.marks))
            parts.append(f'<text x="{end + 7}" y="{y}">{plain(bar.text)}</text>')
        y += ROW // 2
    size = f'width="{WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" viewBox="0 0 {WIDTH} {y}">'
    paper = f'<style>\n{STYLE}</style>\n<rect class="paper" {size}/>'
    return "\n".join([head, paper, *parts, "</svg>\n"])


def plain(markdown: str) -> str:
    return html.escape(markdown.replace("`", ""))
