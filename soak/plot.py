"""Plot the measurements of a run. Needs matplotlib.

The upper plots show RSS and threads, measured from outside each second, with dots where the process
was at rest. The lower plot shows the latencies. The stretches of load have a grey background.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

# A grey that the documentation replaces with the colour of the page's text.
INK = "#7d7d7d"
COLOURS = {"rss": "#2a9d78", "threads": "#4f83cc", "p50": "#a65fb0", "p99": "#d98e04"}


def plot(data: dict[str, Any], target: Path) -> None:
    """Draw without a background, in colours that stand out on white and on black."""
    plt.rcParams |= {"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "soak"}
    plt.rcParams |= {"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK}
    plt.rcParams |= {"xtick.color": INK, "ytick.color": INK, "savefig.transparent": True}
    figure, (memory, threads, speed) = plt.subplots(
        3, 1, figsize=(9, 6.6), sharex=True, layout="constrained"
    )
    rests = [data["started"], data["warm"], *data["pauses"], data["end"]]
    when, count, rss = zip(*data["samples"], strict=True)
    _watched(memory, when, [each / 1024 for each in rss], "rss", "RSS, MB")
    _rests(memory, rests, [each["rss_kb"] / 1024 for each in rests], "rss")
    memory.legend(frameon=False, loc="lower right", ncols=2)
    _watched(threads, when, count, "threads", "threads")
    _rests(threads, rests, [each["threads"] for each in rests], "threads")
    threads.set_ylim(bottom=0)
    speed.set(ylabel="answered after, ms", xlabel="seconds since the start", yscale="log")
    _latencies(speed, data)
    for axes in (memory, threads, speed):
        axes.spines[["top", "right"]].set_visible(False)
        for begin, end in data["loads"]:
            axes.axvspan(begin, end, color=INK, alpha=0.15, linewidth=0, zorder=0)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def _watched(axes: Axes, when: Any, values: Any, colour: str, label: str) -> None:
    axes.plot(when, values, color=COLOURS[colour], linewidth=0.9, label="each second")
    axes.set(ylabel=label)


def _rests(axes: Axes, rests: list[dict[str, Any]], values: list[float], colour: str) -> None:
    seconds = [each["seconds"] for each in rests]
    axes.plot(seconds, values, "o", color=COLOURS[colour], markersize=4, label="at rest")


def _latencies(axes: Axes, data: dict[str, Any]) -> None:
    """Draw one line for each stretch of load: no latency was measured in between."""
    for number, (begin, end) in enumerate(data["loads"]):
        points = [point for point in data["latencies"] if begin <= point[0] <= end]
        for name, column in (("p99", 2), ("p50", 1)):
            axes.plot(
                [point[0] for point in points],
                [point[column] for point in points],
                ".-",
                color=COLOURS[name],
                linewidth=0.8,
                label=name if number == 0 else None,
            )
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, loc="center right", ncols=2)
