"""Write the figures of the READMEs and the documentation from the stored records.

A page contains marks, ``<!-- figures of NAME: begin -->`` and the same with ``end``. The run that
stores the records writes the figures between them, so that figures are never copied by hand. NAME
is the name of a benchmark or of one table (``helpers, asgiref.testing``), either of them optionally
followed by ``with targets``, or a key of `SPECIAL`.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from record import Record
from tables import figure, markdown, tables_of, times

ROOT = Path(__file__).resolve().parents[1]
MAIN_CASES = tomllib.loads(Path(__file__).with_name("main_cases.toml").read_text("utf-8"))
MARKED = re.compile(r"(<!-- figures of (.+?): begin -->\n).*?(<!-- figures of \2: end -->)", re.S)
#: The cores of a well-equipped machine, and the share of them that an operator plans to use.
CORES, SHARE = 32, 0.5
Records = Mapping[str, Record]


def main_cases(records: Records) -> str:
    return markdown(
        {
            "one call": label,
            "asgiref 3.13": figure(case.theirs or 0, table.unit),
            "here": figure(case.ours, table.unit),
            "times as fast": times(case.ratio),
        }
        for benchmark, labels in MAIN_CASES.items()
        for name, label in labels.items()
        for table in records[benchmark].tables
        for case in table.cases
        if case.name == name
    )


def capacity(records: Records) -> str:
    """Calculate the capacity of a primary, a gateway and a worker, from the worst case of each."""
    [spent] = [each for each in records["postgres_echo"].tables if "processor" in each.title]
    rows = []
    for name, role, cores in (
        (f"one primary with {CORES} cores, {SHARE:.0%} of them busy", "server", CORES * SHARE),
        ("one gateway, on one core", "gateway", 1),
        ("one worker that only echoes, on one core", "workers", 1),
    ):
        cost = max(float(case.columns[f"here: {role}"].replace(",", "")) for case in spent.cases)
        carries = f"{float(f'{cores * 1e6 / cost:.2g}'):,.0f} echoes a second"
        rows.append({"capacity": name, "an echo takes": f"{cost:.0f} µs", "carries": carries})
    return markdown(rows)


SPECIAL = {"the main cases": main_cases, "the capacity": capacity}


def figures_of(name: str, records: Records) -> str:
    if name in SPECIAL:
        return SPECIAL[name](records)
    benchmark, _, title = name.removesuffix(" with targets").partition(", ")
    if benchmark not in records:
        raise ValueError(f"No benchmark with stored figures is named {benchmark!r}.")
    tables = tables_of(records[benchmark], name.endswith(" with targets"), title)
    return f"{records[benchmark]} (`tox run -e bench -- --only {benchmark}`):\n\n{tables}"


def with_figures(page: str, records: Records) -> str:
    """Return the page with the figures from the records between its marks.

    Raises:
        ValueError: if a mark names an unknown benchmark.
    """
    return MARKED.sub(lambda mark: f"{mark[1]}\n{figures_of(mark[2], records)}\n\n{mark[3]}", page)


def marked_pages() -> list[Path]:
    found = [ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/*/*.md")]
    return [path for path in found if MARKED.search(path.read_text("utf-8"))]


def write_pages(records: Records) -> None:
    for path in marked_pages():
        path.write_text(with_figures(path.read_text("utf-8"), records), "utf-8")
