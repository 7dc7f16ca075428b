"""Draw records in one style: no background, and colours that stand out on white and on black.

An SVG cannot know whether its page is light or dark: the reader's system may say one thing and the
page's own switch another. So text and lines are grey, and the bars have mid tones.

A bar of ratios starts at one, "as fast as asgiref 3.13", and extends to the right if ours is
faster. The scale is logarithmic, so the bars for twice as fast and half as fast have the same
length. The short vertical line is the target, the thin horizontal line the interval that contains
the median. Needs matplotlib.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from record import Kind, Measured, Record, Table
from tables import times

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
STYLE: Any = {
    "svg.fonttype": "none",
    # With a fixed salt, the same figures give the same file.
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
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
INCHES_A_BAR = 0.34


def draw(record: Record, target: Path) -> None:
    """Write a plot of the ratios in all tables with targets."""
    tables = [table for table in record.tables if table.kind is not Kind.NOTED]
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
    axes.set_xscale("log")
    for row, case in enumerate(table.cases):
        low, high = case.interval
        axes.barh(row, case.ratio - 1, 0.62, left=1, color=OURS if case.met else MISSED)
        around = [[case.ratio - low], [high - case.ratio]]
        axes.errorbar(case.ratio, row, xerr=around, color=GREY, linewidth=1.3, capsize=3)
        axes.plot([case.target] * 2, [row - 0.42, row + 0.42], color=TARGET, linewidth=2.4)
        axes.annotate(
            times(case.ratio),
            (max(high, case.ratio, case.target, 1), row),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
        )
    axes.axvline(1, color=GREY, linewidth=1)
    name_ratios(axes, table)


def name_ratios(axes: Axes, table: Table) -> None:
    values = [value for case in table.cases for value in (*case.interval, case.target)]
    low, high = min(1.0, *values), max(2.0, *values)
    axes.set_xlim(low / 1.06, high * 1.35)
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"{table.title}: {what_ratios_say(table)}; upright: target")


def what_ratios_say(table: Table) -> str:
    if table.kind is Kind.RATE:
        return "times as many requests as theirs"
    if table.kind is Kind.THROUGHPUT:
        return "times as many"
    timed = table.unit in ("ns", "µs")
    return "times as fast as asgiref 3.13" if timed else "so many times less than asgiref 3.13"


def draw_peers(table: Table, target: Path) -> None:
    """Write a plot of each contender's time for each case, for peers named ``PEER, CASE``."""
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
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel(f"{table.unit} for {table.title}, less is better")
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, target)


def times_of(table: Table, case: Measured) -> dict[str, float]:
    """Return each contender's time for one case."""
    suffix = f", {case.name}"
    peers = {
        peer.removesuffix(suffix): value
        for peer, value in table.peers.items()
        if peer.endswith(suffix)
    }
    return {"here": case.ours, "asgiref 3.13": case.theirs or math.nan, **peers}
