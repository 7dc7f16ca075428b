"""What the pages on asgiref-redis show of the stored record: rates, latencies, processor time.

The record has one table for each thing that was measured, with the same cases in all; here they
stand side by side, and what a cluster carries is calculated from them.
"""

from record import Measured, Record, Table
from tables import markdown, measured, plain

__all__ = ["cluster", "latency", "processor", "rates"]

#: Hosts and cores that the calculation assumes for workers; as many as there are partitions.
WORKERS = 64
SHARES = ("producer", "Redis", "workers")


def found(record: Record, *words: str) -> list[Table]:
    """The tables whose titles have all words."""
    return [each for each in record.tables if all(word in each.title for word in words)]


def rates(record: Record) -> str:
    """Messages a second of each case, beside both."""
    [bare], [channels] = found(record, "a second", "bare"), found(record, "a second", "Channels")
    rows = []
    for ours, other in zip(bare.cases, channels.cases, strict=True):
        figures = [f"{each or 0:,.0f}" for each in (ours.ours, ours.theirs, other.theirs)]
        rows.append((ours.name, *figures, f"{ours.ratio:.2f}", f"{other.ratio:.0f}"))
    headings = ("messages a second", "here", "bare streams", "Channels")
    text = markdown((*headings, "here / bare", "here / Channels"), rows)
    command = "tox run -e bench -- --only redis_streams"
    return f"{measured(record)}; load {record.load:.1f} before (`{command}`):\n\n{text}"


def latency(record: Record) -> str:
    """What 99 of 100 messages take at most, at the rates that were measured."""
    tables = found(record, "p99")
    heads = [
        f"{name}, {each.title.rpartition(' at ')[2].partition(' ')[0]}/s"
        for each in tables
        for name in each.cases[0].columns
    ]
    rows: list[tuple[str, ...]] = []
    for cases in zip(*(each.cases for each in tables), strict=True):
        figures = [f"{plain(value)} ms" for case in cases for value in case.columns.values()]
        rows.append((cases[0].name, *figures))
    return markdown(("p99", *heads), rows)


def processor(record: Record) -> str:
    """The processor time of a message, by process."""
    [spent] = found(record, "processor time")
    columns = [f"{kind}: {share}" for kind in ("here", "bare streams") for share in SHARES]
    rows = [
        (case.name, *(f"{case.columns[column]:.0f} µs" for column in columns))
        for case in spent.cases
    ]
    return markdown(("a message", "gateway", *SHARES[1:], *(f"bare: {s}" for s in SHARES)), rows)


def costliest(cases: list[Measured], share: str) -> float:
    return max(case.columns[f"here: {share}"] for case in cases)


def cluster(record: Record) -> str:
    """What one connection carries when each process has a core, by the worst case of each."""
    [spent] = found(record, "processor time")
    kinds = ((f"{WORKERS} workers", "workers", WORKERS), ("one gateway", "producer", 1))
    rows: list[tuple[str, ...]] = []
    for name, share, count in (*kinds, ("one Redis", "Redis", 1)):
        cost = costliest(spent.cases, share)
        rows.append(
            (name, f"{cost:.0f} µs", f"{float(f'{count * 1e6 / cost:.2g}'):,.0f} messages a second")
        )
    return markdown(("", "a message takes", "at most"), rows)
