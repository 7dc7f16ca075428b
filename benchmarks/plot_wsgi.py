"""Plot what `wsgi.py` and `wsgi_servers.py` have measured.

``python plot_wsgi.py WSGI.json SERVERS.json PLOT.svg``: the files that the two write with
``--json``. Needs matplotlib.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

PEERS = ("raw", "a2wsgi", "uvicorn", "hypercorn")
COLOURS = {
    "here": "#1b7837",
    "raw": "#bbbbbb",
    "asgiref 3.13": "#762a83",
    "a2wsgi": "#9970ab",
    "uvicorn": "#c2a5cf",
    "hypercorn": "#e7d4e8",
}


def times_of(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the microseconds of each contender, by case."""
    return {
        case["name"]: {
            "here": case["ours"],
            **{peer: record["peers"][f"{peer}, {case['name']}"] for peer in PEERS},
            "asgiref 3.13": case["theirs"],
        }
        for case in record["cases"]
    }


def plot(record: dict[str, Any], rates: dict[str, float], target: Path) -> None:
    plt.rcParams |= {"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "plot"}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.6), width_ratios=[2.2, 1], layout="constrained"
    )
    times = times_of(record)
    height = 0.8 / len(COLOURS)
    for place, (name, colour) in enumerate(COLOURS.items()):
        rows = [row + (place - 2.5) * height for row in range(len(times))]
        left.barh(rows, [case[name] for case in times.values()], height, color=colour, label=name)
    left.set(yticks=range(len(times)), yticklabels=list(times), xscale="log")
    left.set(xlabel="µs a request, in process (less is better)")
    left.invert_yaxis()
    left.legend(frameon=False, fontsize=8, loc="upper right")
    colours = [COLOURS.get(name.split(",")[0], "#999999") for name in rates]
    bars = right.barh(list(rates), list(rates.values()), color=colours)
    right.bar_label(bars, fmt="{:.0f}", padding=3)
    right.set(xlabel="requests a second (more is better)")
    right.set_xlim(0, 1.2 * max(rates.values()))
    right.invert_yaxis()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    measured, servers, target = map(Path, sys.argv[1:])
    plot(json.loads(measured.read_text()), json.loads(servers.read_text()), target)
