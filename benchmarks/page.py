"""The page of the documentation that shows the stored records: tables, plots, and the machine."""

from collections.abc import Sequence

from record import Kind, Record
from tables import tables_of

__all__ = ["has_plot", "page_of", "peers_table"]

BEGIN = """\
# Benchmarks

How fast each part is beside asgiref 3.13.0 and others, what it may cost at most, and on which
machine that was measured. This page is written by the run that stored the figures; do not edit it.

```console
$ tox run -e bench               # measure everything, and compare with what is stored here
$ tox run -e bench -- --rounds 5 # sooner, and with more noise
$ tox run -e bench -- --store    # store the figures, and write this page and its plots
```

Every run leaves its figures as JSON, its tables and its plots in a folder, whose name it prints.

Two processes, one with these packages and one with asgiref 3.13.0, measure each case in turns,
round by round. Figures are medians of the rounds; a ratio is the median of the rounds' ratios,
which moves far less from day to day than times do. In the plots a bar that reaches to the right of
1 is faster than asgiref 3.13, or than what stands in its place; the grey line on it is where the
median lies with 99 % certainty (with fewer than eight rounds, the whole range), and the upright
line is the target. A red bar misses that, or the limit that its row of the table names; either
makes the run fail.
"""

ABOUT = {
    "bridge": """\
What a call costs that does nothing, so all of it is the bridge: `sync_to_async`, thread-sensitive;
the same inside one `ThreadSensitiveContext`; with `thread_sensitive=False`; with 30 context
variables set; 1000 calls gathered; a `ThreadSensitiveContext` for each; `async_to_sync` in a thread
below async code, and where no loop runs; whole Django requests. `raw hop` is one thread, one queue
and one wake-up a call.""",
    "bridge_memory": """\
Threads, loops, tasks, descriptors and contexts that are there after the calls and were not before,
and by how much the process grew.""",
    "wsgi": """\
One request from scope to last event, with nothing of a server around it. `raw` gathers the body,
makes one executor call and sends two events.""",
    "wsgi_servers": """\
`wrk` asks one server after the other, with connections that are kept alive. "failed" is how many
answers were errors.""",
    "asgi_to_wsgi": """\
One request from environ to last chunk, with nothing of a server around it, and requests that `wrk`
makes of gunicorn with connections that are kept alive.""",
    "server": """\
A message to an application, among ever more scopes; the eviction of a scope; what 50,000 idle ones
take of a core; the memory of one.""",
    "local": """\
Reading and writing one attribute, by where it was set and where it is read.""",
    "helpers": """\
A communicator of `asgiref.testing` carries a message to an application and back.
`guarantee_single_callable` is given an application, where an ASGI 2 class is also looked at whether
it takes a scope; a call goes through the adapter. `asgiref.typing` is imported.""",
    "postgres_echo": """\
Messages from a gateway through PostgreSQL to two workers, and their echoes back to the gateway: as
fast as it goes, then at a steady rate, where the time is from when a message is due to its echo.
`bare loop` is a loop of batched statements that insert, select and delete as many rows, without
scopes, order or acknowledgements. `Channels` is channels_redis with Channels' `Worker` on asgiref
3.13.0, one channel for all. Processor time is of all processes of a kind together.""",
}


def has_plot(record: Record) -> bool:
    return all(table.kind is not Kind.GROWTH for table in record.tables)


def peers_table(record: Record) -> int | None:
    """Which table has peers that did the same cases, named ``PEER, CASE``."""
    for number, table in enumerate(record.tables):
        if table.peers and all(", " in peer for peer in table.peers):
            names = {case.name for case in table.cases}
            if {peer.split(", ", 1)[1] for peer in table.peers} <= names:
                return number
    return None


def conditions_of(record: Record) -> str:
    rounds = f"{record.rounds} rounds, " if record.rounds > 1 else ""
    return (
        f"{record.date}, {rounds}{record.machine}; {record.conditions}, "
        f"load {record.load:.1f} before."
    )


def section_of(record: Record) -> str:
    parts = [f"## {record.subject}", ABOUT[record.name]]
    plain = record.subject.replace("`", "")
    if has_plot(record):
        parts.append(f"![{plain}: ratios and targets]({record.name}.svg)")
    if peers_table(record) is not None:
        parts.append(f"![{plain}: beside others]({record.name}-peers.svg)")
    return "\n\n".join([*parts, tables_of(record), conditions_of(record)])


def page_of(records: Sequence[Record]) -> str:
    """The whole page, in the order of the records."""
    return "\n\n".join([BEGIN.rstrip(), *map(section_of, records)]) + "\n"
