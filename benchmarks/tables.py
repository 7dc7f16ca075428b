"""The tables of a record in Markdown, for the terminal and the page."""

from collections.abc import Iterable, Sequence

from record import Kind, Measured, Record, Table

__all__ = ["figure", "markdown", "measured", "plain", "tables_of", "times"]


def headings(table: Table) -> tuple[str, ...]:
    match table.kind:
        case Kind.COST:
            return (table.theirs, "here", "ratio", "target", "and at most", "met")
        case Kind.RATE:
            return ("requests a second", "failed", "here as many times", "target", "met")
        case Kind.THROUGHPUT:
            return (table.theirs, "here", "ratio", "target", "met")
        case Kind.GROWTH:
            return ("RSS growth", "limit", "more than before", "met")
        case Kind.NOTED:
            return tuple(table.cases[0].columns)


def figure(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 1000 else 1
    return f"{value:,.{digits}f} {unit}"


def times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def cells(table: Table, case: Measured) -> list[str]:
    met = "yes" if case.met else "NO"
    theirs = 0.0 if case.theirs is None else case.theirs
    match table.kind:
        case Kind.COST:
            pair = [figure(theirs, table.unit), figure(case.ours, table.unit)]
            return [*pair, times(case.ratio), f"{case.target:g}", strictest(table, case), met]
        case Kind.RATE:
            return [f"{theirs:,.0f}", case.note, times(case.ratio), f"{case.target:g}", met]
        case Kind.THROUGHPUT:
            pair = [f"{theirs:,.0f}", f"{case.ours:,.0f}"]
            return [*pair, f"{case.ratio:.2f}", f"{case.target:g}", met]
        case Kind.GROWTH:
            pair = [f"{case.ours:.0f} {table.unit}", f"{case.target:.0f} {table.unit}"]
            return [*pair, case.note, met]
        case Kind.NOTED:
            return [plain(value) for value in case.columns.values()]


def plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def strictest(table: Table, case: Measured) -> str:
    """Return the lowest limit, which decides, and its formula."""
    if not case.bounds:
        return ""
    text, limit = min(case.bounds.items(), key=lambda bound: bound[1])
    return f"{figure(limit, table.unit)}: {text}"


def row(*columns: str) -> str:
    return f"| {' | '.join(columns)} |"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with these heads and rows."""
    return "\n".join([row(*heads), "|" + "---|" * len(heads), *(row(*each) for each in rows)])


def measured(record: Record) -> str:
    """Return how, when and on which machine a record was measured."""
    return (
        f"Medians of {record.rounds} rounds that alternate, {record.date}, {record.machine}; "
        f"{record.conditions}"
    )


def table_of(table: Table) -> str:
    rows = ((case.name, *cells(table, case)) for case in table.cases)
    return markdown((table.title, *headings(table)), rows)


def table_of_peers(table: Table) -> str:
    rows = ((peer, figure(value, table.unit)) for peer, value in table.peers.items())
    return markdown(("for comparison", ""), rows)


def tables_of(record: Record) -> str:
    texts = []
    for table in record.tables:
        texts.append(table_of(table))
        if table.peers:
            texts.append(table_of_peers(table))
    return "\n\n".join(texts)
