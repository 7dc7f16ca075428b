"""Draw records. One style for all: no background, and colours that stand out on white and on black.

A page is read on a light or a dark background, and an SVG in it cannot know which: the reader's
system may say one thing and the page's own switch another. So text and lines are of a grey between
the two, and the bars of mid tones.

A bar of ratios begins at one, "as fast as asgiref 3.13": to the right is faster. The scale is
logarithmic, so twice as fast and half as fast are as long. The short upright line is the target,
the thin lying one the interval that holds the median. Needs matplotlib.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from record import Kind, Measured, Record, Table

__all__ = ["draw", "draw_peers"]

GREY = "#7d7d7d"
OURS = "#2a9d78"
MISSED = "#c8553d"
TARGET = "#d98e04"
OTHERS = {
    "here": OURS,
    "raw": "#9a9a9a",
    "asgiref 3.13": "#a65fb0",
    "a2wsgi": "#4f83cc",
    "uvicorn": "#d98e04",
    "hypercorn": "#c8553d",
}
STYLE = {
    "svg.fonttype": "none",
    # The same figures give the same file.
    "svg.hashsalt": "benchmarks",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.transparent": True,
}
INCHES_A_BAR = 0.34


def draw(record: Record, target: Path) -> None:
    """Write a plot of all tables of a record."""
    tables = record.tables
    bars = [len(table.cases) for table in tables]
    height = sum(bars) * INCHES_A_BAR + len(tables) * 0.75
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(tables),
            figsize=(8, height),
            height_ratios=[each + 0.4 for each in bars],
            squeeze=False,
            layout="constrained",
        )
        for [place], table in zip(axes, tables, strict=True):
            draw_table(place, table)
        save(figure, target)


def save(figure: Any, target: Path) -> None:
    figure.savefig(target, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def draw_table(axes: Axes, table: Table) -> None:
    axes.set_yticks(range(len(table.cases)), [case.name for case in table.cases])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    if table.kind is Kind.GROWTH:
        draw_growth(axes, table)
    else:
        draw_ratios(axes, table)


def draw_ratios(axes: Axes, table: Table) -> None:
    axes.set_xscale("log")
    for row, case in enumerate(table.cases):
        axes.barh(row, case.ratio - 1, 0.62, left=1, color=OURS if case.met else MISSED)
        axes.plot(case.interval, [row, row], color=GREY, linewidth=1.2)
        axes.plot([case.target] * 2, [row - 0.42, row + 0.42], color=TARGET, linewidth=2.4)
        axes.text(
            max(case.ratio, case.target, case.interval[1]),
            row,
            f"  {case.ratio:.1f}" if case.ratio < 10 else f"  {case.ratio:.0f}",
            va="center",
        )
    axes.axvline(1, color=GREY, linewidth=1)
    name_ratios(axes, table)


def name_ratios(axes: Axes, table: Table) -> None:
    values = [value for case in table.cases for value in (*case.interval, case.target)]
    low, high = min(1.0, *values), max(2.0, *values)
    axes.set_xlim(low / 1.06, high * 1.35)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    what = {Kind.COST: "times as fast as asgiref 3.13", Kind.RATE: "times as many requests"}
    axes.set_xlabel(f"{table.title}: {what[table.kind]}; upright: target")


def draw_growth(axes: Axes, table: Table) -> None:
    limit = table.cases[0].target
    for row, case in enumerate(table.cases):
        axes.barh(row, case.ours, 0.62, color=OURS if case.met else MISSED)
        axes.text(max(case.ours, 0), row, f"  {case.ours:.0f}", va="center")
    axes.axvline(0, color=GREY, linewidth=1)
    axes.axvline(limit, color=TARGET, linewidth=2.4)
    axes.set_xlabel(f"{table.title}: kB of memory more than before; upright: limit")


def draw_peers(table: Table, target: Path) -> None:
    """Write a plot of what each contender took for each case, for peers named ``PEER, CASE``."""
    contenders = {case.name: times_of(table, case) for case in table.cases}
    height = 0.84 / len(OTHERS)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8, 0.9 * len(table.cases)), layout="constrained")
        for place, (name, colour) in enumerate(OTHERS.items()):
            rows = [
                row + (place - (len(OTHERS) - 1) / 2) * height for row in range(len(contenders))
            ]
            values = [times.get(name, math.nan) for times in contenders.values()]
            axes.barh(rows, values, 0.9 * height, color=colour, label=name)
        axes.set_yticks(range(len(contenders)), list(contenders))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel(f"{table.unit} for {table.title}, less is better")
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, target)


def times_of(table: Table, case: Measured) -> dict[str, float]:
    """What each contender took for one case."""
    suffix = f", {case.name}"
    peers = {
        peer.removesuffix(suffix): value
        for peer, value in table.peers.items()
        if peer.endswith(suffix)
    }
    return {"here": case.ours, "asgiref 3.13": case.theirs or math.nan, **peers}
