"""The tables of a record in Markdown, for the terminal, the READMEs and the documentation.

With an earlier record, a table also shows the earlier ratios and reports changes beyond the noise:
those where the intervals of the two medians (`record.interval_of_median`) do not overlap. Ratios
are far more stable from day to day than times. Rounds do not show noise that lasts for a whole run;
only a second run does.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter

from record import Measured, Record, Table


def figure(value: float, unit: str = "") -> str:
    return (f"{value:,.0f} " if abs(value) >= 1000 else f"{value:,.1f} ") + unit


def times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def markdown(rows: Iterable[Mapping[str, str]]) -> str:
    """Return a table of rows, which are cells by heading."""
    rows = list(rows)
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = [heads, *([row.get(head, "") for head in heads] for row in rows)]
    top, *below = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([top, "|" + "---|" * len(heads), *below])


def cells(table: Table, case: Measured, full: bool = True) -> dict[str, str]:
    found = {table.title: case.name, **case.columns}
    if not case.columns:
        theirs = {} if case.theirs is None else {table.theirs: case.theirs}
        for name, value in {**theirs, "here": case.ours, **case.peers}.items():
            found[name] = figure(value, table.unit)
    found |= {"ratio": times(case.ratio)} if case.samples else {}
    if full and (case.samples or case.limits):
        found |= {"target": f"{case.target:g}"} if case.samples else {}
        if any(each.limits for each in table.cases):
            # The lowest limit decides.
            formula, limit = min(case.limits.items(), key=itemgetter(1), default=("", None))
            shown = "" if limit is None else f"{figure(limit, table.unit)}: {formula}"
            found["at most"] = shown.removesuffix(": limit")
        found["met"] = "yes" if case.met else "NO"
    return found


def change(then: Measured | None, now: Measured) -> dict[str, str]:
    """Return the cells that compare a case with the earlier one."""
    if not now.samples:
        return {}
    if then is None or not then.samples:
        return {"before": "", "change": "new"}
    (low_then, high_then), (low_now, high_now) = then.interval, now.interval
    verdict = "**better**" if low_now > high_then else "**WORSE**"
    if low_now <= high_then and low_then <= high_now:
        verdict = "within the noise"
    return {"before": f"{then.ratio:.3g} ({low_then:.3g} to {high_then:.3g})", "change": verdict}


def tables_of(record: Record, full: bool = True, only: str = "", then: Record | None = None) -> str:
    """Return the tables, or the one with a title; the short ones lack targets and limits."""
    earlier = then.tables if then else []
    before = {(each.title, case.name): case for each in earlier for case in each.cases}
    texts = []
    for table in record.tables:
        if only not in ("", table.title.replace("`", "")):
            continue
        rows = [cells(table, case, full) for case in table.cases]
        if then:
            for row, case in zip(rows, table.cases, strict=True):
                row.update(change(before.get((table.title, case.name)), case))
        texts.append(markdown(rows))
        if table.peers:
            peers = (f"{name} {figure(value, table.unit)}" for name, value in table.peers.items())
            texts.append(f"In the same run: {', '.join(peers)}.")
    return "\n\n".join(texts)
