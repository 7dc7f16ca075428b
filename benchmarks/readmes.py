"""Write the tables of the READMEs and other introductory pages from the stored records.

The run that stores the records writes each table between two marks, with all cases of a record. So
figures are never copied by hand, and none are left out. The text around a table has no figures.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from record import Measured, Record, Table
from tables import figure, markdown, measured, tables_of, times

__all__ = ["BLOCKS", "Block", "with_block", "write_blocks"]

Records = Mapping[str, Record]


@dataclass(frozen=True, slots=True)
class Block:
    """The text between the marks of one file, made from some records."""

    file: str
    name: str
    records: tuple[str, ...]
    text: Callable[[Records], str]


def with_block(page: str, name: str, text: str) -> str:
    """Return the page with ``text`` between the marks of this name.

    Raises:
        ValueError: if the page has no such marks.
    """
    begin, end = f"<!-- figures of {name}: begin -->", f"<!-- figures of {name}: end -->"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    changed, found = marked.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", page)
    if not found:
        raise ValueError(f"The page has no line {begin!r}, with the end behind it.")
    return changed


def write_blocks(records: Sequence[Record], root: Path) -> None:
    """Write the tables of the pages below ``root`` for which there are records."""
    by_name = {record.name: record for record in records}
    for block in BLOCKS:
        if set(block.records) <= by_name.keys():
            page = root / block.file
            text = with_block(page.read_text("utf-8"), block.name, block.text(by_name))
            page.write_text(text, "utf-8")


# The texts of the blocks


def beside(values: Table, case: Measured) -> tuple[str, str, str]:
    """Return the cost of a case with asgiref 3.13, the cost here, and the speed-up."""
    theirs = "" if case.theirs is None else figure(case.theirs, values.unit)
    return theirs, figure(case.ours, values.unit), times(case.ratio)


def all_cases(
    labels: Mapping[str, str], of: str, title: str | None = None
) -> Callable[[Records], str]:
    """Return a function that makes a table of a record's cases, followed by its peers.

    The table compares every case with asgiref 3.13. An empty label leaves a peer out. With a title,
    only the record's table with this title counts.
    """

    def text(records: Records) -> str:
        record = records[of]
        tables = [each for each in record.tables if title in (None, each.title)]
        rows = [
            (labels.get(case.name, case.name), *beside(each, case))
            for each in tables
            for case in each.cases
        ]
        headings = (tables[0].title, "asgiref 3.13", "here", "ratio")
        parts = [f"{measured(record)} (`tox run -e py313-bench`):", markdown(headings, rows)]
        peers = [
            f"{labels.get(name, name)} {figure(value, each.unit)}"
            for each in tables
            for name, value in each.peers.items()
            if name not in {case.name for case in each.cases} and labels.get(name, name)
        ]
        if peers:
            parts.append(f"In the same run: {', '.join(peers)}.")
        return "\n\n".join(parts)

    return text


def wsgi(records: Records) -> str:
    """Compare every case with every peer; the name of a peer's case starts with the peer."""
    [values] = records["wsgi"].tables
    others = list(dict.fromkeys(name.partition(", ")[0] for name in values.peers))
    rows = []
    for case in values.cases:
        theirs, ours, _ = beside(values, case)
        peers = [figure(values.peers[f"{other}, {case.name}"], values.unit) for other in others]
        rows.append([case.name, ours, theirs, *peers])
    headings = [values.title, "here", "asgiref 3.13", *others]
    return f"{measured(records['wsgi'])} (`tox run -e py313-bench`):\n\n{markdown(headings, rows)}"


def servers(records: Records) -> str:
    record = records["wsgi_servers"]
    [values] = record.tables
    rows = [
        (case.name, "" if case.theirs is None else f"{case.theirs:,.0f}", case.note)
        for case in values.cases
    ]
    headings = (values.title, "requests a second", "failed")
    return f"{measured(record)} (`tox run -e bench-servers`):\n\n{markdown(headings, rows)}"


def adapters_of_asgi(records: Records) -> str:
    """Join both tables that compare `AsgiToWsgi` with a2wsgi."""
    record = records["asgi_to_wsgi"]
    rows = []
    for values in record.tables:
        for case in values.cases:
            theirs, ours, ratio = beside(values, case)
            where = f"{values.title}, {case.name}" if len(values.cases) == 1 else case.name
            rows.append((where, theirs, ours, ratio))
    headings = ("`AsgiToWsgi`", record.tables[0].theirs, "here", "ratio")
    command = "`tox run -e py313-bench -- --only asgi_to_wsgi`"
    return f"{measured(record)} ({command}):\n\n{markdown(headings, rows)}"


#: The most important cases, with labels that make sense without the other cases.
FIRST = (
    ("bridge", "sensitive", "a blocking function from async code"),
    ("bridge", "async_to_sync at top level", "a coroutine from blocking code, at top level"),
    ("bridge", "Django ASGI, sync view", "a Django request, ASGI, sync view"),
    ("wsgi", "hello", "a WSGI request, in process"),
    ("server", "eviction, 5,000 scopes", "evicting a scope of a server with 5,000"),
    ("local", "read, set by async code", "reading an attribute of a `Local`"),
    ("local", "write in async code", "writing one"),
)

RULE_OF_THUMB = (
    ("local", "read, set by async code", "reading an attribute of a `Local`"),
    ("local", "write in async code", "writing one"),
    ("bridge", "sensitive", "a call of a function from async code, and back"),
    ("bridge", "async_to_sync below", "a coroutine from sync code, below such a call"),
    ("bridge", "async_to_sync at top level", "a coroutine from sync code at top level"),
    ("bridge", "a context each", "a `ThreadSensitiveContext` and a call in it"),
    ("wsgi", "hello", "a WSGI request, without a server"),
)


def found(records: Records, of: str, name: str) -> tuple[Table, Measured]:
    for each in records[of].tables:
        for case in each.cases:
            if case.name == name:
                return each, case
    raise ValueError(f"The record {of!r} has no case {name!r}.")


def first(records: Records) -> str:
    rows = [(label, *beside(*found(records, of, name))) for of, name, label in FIRST]
    return markdown(("", "asgiref 3.13", "here", "times as fast"), rows)


def rule_of_thumb(records: Records) -> str:
    rows = []
    for of, name, label in RULE_OF_THUMB:
        each, case = found(records, of, name)
        rows.append((label, f"{float(f'{case.ours:.1g}'):g} {each.unit}"))
    return markdown(("", "about"), rows)


def postgres(records: Records) -> str:
    """Return all tables on asgiref-postgres, as on the page of the benchmarks."""
    record = records["postgres_echo"]
    command = "`tox run -e bench -- --only postgres_echo`"
    text = tables_of(record)
    return f"{measured(record)}; load {record.load:.1f} before ({command}):\n\n{text}"


#: The cores of a well-equipped machine, and the share of them that an operator plans to use.
CORES, SHARE = 32, 0.5


def capacity(records: Records) -> str:
    """Calculate the capacity of a primary, a gateway and a worker, from the worst case of each."""
    [spent] = [each for each in records["postgres_echo"].tables if "processor" in each.title]
    rows = []
    for name, role, cores in (
        (f"one primary with {CORES} cores, {SHARE:.0%} of them busy", "server", CORES * SHARE),
        ("one gateway, on one core", "gateway", 1),
        ("one worker that only echoes, on one core", "workers", 1),
    ):
        cost = max(case.columns[f"here: {role}"] for case in spent.cases)
        carries = float(f"{cores * 1e6 / cost:.2g}")
        rows.append((name, f"{cost:.0f} µs", f"{carries:,.0f} echoes a second"))
    return markdown(("", "an echo takes", "carries"), rows)


BRIDGE = {
    "sensitive": "`sync_to_async`, thread-sensitive",
    "in a context": "the same inside a `ThreadSensitiveContext`",
    "parallel": "`thread_sensitive=False`",
    "30 variables": "with 30 context variables",
    "1000 at once": "1000 at once, each",
    "a context each": "a `ThreadSensitiveContext` and one call in it",
    "async_to_sync below": "`async_to_sync` below `sync_to_async`",
    "async_to_sync at top level": "`async_to_sync` at top level",
    "top level and back": "the same, and one `sync_to_async` in it",
}

LOCAL = {"threading.local": "reading a `threading.local`", "async write": "", "sync write": ""}

SERVER = {
    "50,000 idle scopes": "50,000 idle scopes, share of a core",
    "a scope": "memory of an idle scope",
}

BLOCKS = (
    Block("README.md", "all", ("bridge", "wsgi", "server", "local"), first),
    Block("packages/asgiref/README.md", "all", ("bridge", "wsgi", "server", "local"), first),
    Block("docs/explanation/what-costs-what.md", "all", ("bridge", "wsgi", "local"), rule_of_thumb),
    Block("packages/asgiref-sync/README.md", "bridge", ("bridge",), all_cases(BRIDGE, "bridge")),
    Block("packages/asgiref-local/README.md", "local", ("local",), all_cases(LOCAL, "local")),
    *(
        Block(
            f"packages/asgiref-{name}/README.md",
            name,
            ("helpers",),
            all_cases({}, "helpers", f"`asgiref.{name}`"),
        )
        for name in ("testing", "compatibility", "typing")
    ),
    Block("packages/asgiref-server/README.md", "server", ("server",), all_cases(SERVER, "server")),
    Block("docs/explanation/postgres-capacity.md", "echoes", ("postgres_echo",), postgres),
    Block("docs/explanation/postgres-capacity.md", "capacity", ("postgres_echo",), capacity),
    Block("packages/asgiref-wsgi/README.md", "wsgi", ("wsgi",), wsgi),
    Block("packages/asgiref-wsgi/README.md", "wsgi_servers", ("wsgi_servers",), servers),
    Block("packages/asgiref-wsgi/README.md", "asgi_to_wsgi", ("asgi_to_wsgi",), adapters_of_asgi),
)
