"""The report of a run: tables for the terminal and the documentation, and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from records import Run, Snapshot
from verdict import Line

__all__ = ["Latency", "latencies", "results", "table", "write_page"]

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass(frozen=True, slots=True)
class Latency:
    """The median and the 99th percentile of the latencies in an interval, in milliseconds."""

    seconds: float  #: since the start of the run, at the middle of the interval
    p50: float
    p99: float
    answers: int


def latencies(run: Run, interval: float) -> Iterator[Latency]:
    """Yield the latencies of each interval, in seconds, that has at least one answer."""
    parts: dict[int, list[float]] = {}
    for when, took in run.ledger.latencies:
        parts.setdefault(int((when - run.began) // interval), []).append(took * 1000)
    for part in sorted(parts):
        answers = sorted(parts[part])
        p99 = answers[min(len(answers) - 1, len(answers) * 99 // 100)]
        yield Latency((part + 0.5) * interval, statistics.median(answers), p99, len(answers))


def table(lines: list[Line]) -> str:
    """Return the verdict as Markdown."""
    rows = ["| | found | allowed | holds |", "|---|---|---|---|"]
    for line in lines:
        holds = "yes" if line.holds else "**NO**"
        rows.append(f"| {line.name} | {line.found} | {line.allowed} | {holds} |")
    return "\n".join(rows)


def held(run: Run) -> str:
    """Return the counts of the process at each rest as Markdown."""
    counts = ("threads", "descriptors", "children", "tasks", "loops", "objects", "rss_kb")
    moments = [("at the start", run.started), ("after warm-up", run.warm)]
    moments += [(f"pause {number}", each) for number, each in enumerate(run.pauses, 1)]
    moments.append(("at the end", run.end))
    rows = [
        "| | requests | threads | descriptors | children | tasks | loops | objects | RSS, kB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in moments:
        figures = " | ".join(f"{getattr(each, count):,}" for count in counts)
        rows.append(f"| {name} | {each.requests:,} | {figures} |")
    return "\n".join(rows)


def asked(run: Run) -> str:
    """Return the number of requests of each kind, by outcome, as Markdown."""
    rows = ["| kind | sent | answered | cut by us | failed |", "|---|---|---|---|---|"]
    kinds = {**dict(sorted(run.ledger.tallies.items())), "websocket messages": run.ledger.messages}
    for kind, each in kinds.items():
        figures = f"{each.sent:,} | {each.answered:,} | {each.cut:,} | {len(each.failures)}"
        rows.append(f"| {kind} | {figures} |")
    plain = run.ledger.plain
    rows.append(f"| wrk | | {plain.answered:,} | | {plain.failed} |")
    return "\n".join(rows)


def results(run: Run, lines: list[Line], versions: dict[str, str]) -> dict[str, Any]:
    """Return everything except the raw marks, records and types, in a form for JSON."""
    tallies = {kind: asdict(each) for kind, each in sorted(run.ledger.tallies.items())}
    return {
        "began": datetime.fromtimestamp(run.began, UTC).isoformat(timespec="seconds"),
        "machine": run.machine,
        "versions": versions,
        "seconds": run.seconds,
        "holds": all(line.holds for line in lines),
        "verdict": [asdict(line) for line in lines],
        "requests": tallies,
        "messages": asdict(run.ledger.messages),
        "plain": asdict(run.ledger.plain),
        "errors_caused": len(run.ledger.caused),
        "started": _brief(run.started),
        "warm": _brief(run.warm),
        "pauses": [_brief(each) for each in run.pauses],
        "end": _brief(run.end),
        "loads": [[round(begin, 1), round(end, 1)] for begin, end in run.loads],
        "samples": [[round(each.seconds, 1), each.threads, each.rss_kb] for each in run.samples],
        "latencies": [
            [round(each.seconds, 1), round(each.p50, 2), round(each.p99, 2), each.answers]
            for each in latencies(run, interval_of(run))
        ],
    }


def interval_of(run: Run) -> float:
    """Return the length of an interval in seconds.

    A run has about a hundred intervals, but none is too short for a meaningful p99.
    """
    return max(2.0, round(run.seconds / 100))


def _brief(snapshot: Snapshot) -> dict[str, Any]:
    brief = asdict(snapshot)
    del brief["types"], brief["served"]
    return {**brief, "seconds": round(snapshot.seconds, 1), "requests": snapshot.requests}


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write one line for each point of a series, to keep the file readable."""
    text = json.dumps(data, indent=1)
    series = {key: data[key] for key in ("loads", "samples", "latencies")}
    for key, points in series.items():
        whole = json.dumps({key: points}, indent=1)[2:-2]
        brief = f' "{key}": [\n  ' + ",\n  ".join(map(json.dumps, points)) + "\n ]"
        text = text.replace(whole, brief)
    path.write_text(text + "\n", encoding="utf-8")


def write_page(page: Path, run: Run, lines: list[Line], versions: dict[str, str]) -> None:
    """Write this run between the page's two marks.

    Raises:
        ValueError: if the page does not have both.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} does not have the lines {BEGIN!r} and {END!r}")
    made = "\n\n".join(
        (
            f"{run.machine}; {', '.join(f'{name} {each}' for name, each in versions.items())}; "
            f"{run.seconds:.0f} seconds of load, warm-up included.",
            table(lines),
            "Counts of the process at rest:",
            held(run),
            "Requests and messages by outcome:",
            asked(run),
        )
    )
    page.write_text(f"{before}{begin}\n\n{made}\n\n{end}{after}", encoding="utf-8")
