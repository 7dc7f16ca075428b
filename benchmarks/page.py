"""The page of the documentation that shows the stored records: tables, plots, and the machine."""

from collections.abc import Sequence

from record import Kind, Record
from tables import tables_of

__all__ = ["has_plot", "page_of", "peers_table"]

BEGIN = """\
# Benchmarks

This page compares the speed of each part with asgiref 3.13.0 and others, and shows the limits of
each part and the machine of each measurement. The run that stored the figures wrote it; do not edit
it.

```console
$ tox run -e bench               # measure everything, and compare with what is stored here
$ tox run -e bench -- --rounds 5 # faster, with more noise
$ tox run -e bench -- --store    # store the figures, and write this page and its plots
```

Every run writes its figures as JSON, its tables and its plots to a folder, and prints the folder's
name.

Two processes, one with these packages and one with asgiref 3.13.0, measure each case alternately,
round by round. Figures are medians of the rounds; a ratio is the median of the rounds' ratios,
which varies far less from day to day than times do. In the plots, a bar to the right of 1 is faster
than asgiref 3.13, or than the alternative that the table names. The grey line on the bar is the
interval that contains the median with 99 % certainty (with fewer than eight rounds, the whole
range); the upright line is the target. A red bar misses its target or the limit in its row of the
table; either makes the run fail.
"""

ABOUT = {
    "bridge": """\
The cost of a call to an empty function, so that only the bridge counts: `sync_to_async`,
thread-sensitive; the same inside one `ThreadSensitiveContext`; with `thread_sensitive=False`; with
30 context variables; 1000 calls in `asyncio.gather`; a `ThreadSensitiveContext` for each call;
`async_to_sync` in a thread below async code, and without a running loop; whole Django requests.
`raw hop` is one thread, one queue and one wake-up per call.""",
    "bridge_memory": """\
The additional threads, loops, tasks, descriptors and contexts after the calls, and the growth of
the
process.""",
    "wsgi": """\
One request from scope to last event, without a server. `raw` gathers the body, makes one executor
call and sends two events.""",
    "wsgi_servers": """\
`wrk` sends requests to one server after the other over keep-alive connections. "failed" is the
share
of answers that were errors.""",
    "asgi_to_wsgi": """\
One request from environ to last chunk, without a server; and requests that `wrk` sends to gunicorn
over keep-alive connections.""",
    "server": """\
A message to an application, with an increasing number of scopes; the eviction of a scope; the share
of a core that 50,000 idle scopes use; the memory of one scope.""",
    "local": """\
Reads and writes of one attribute, by the kind of code that sets it and reads it.""",
    "helpers": """\
For `asgiref.testing`, a communicator carries a message to an application and back. For
`asgiref.compatibility`, `guarantee_single_callable` gets an application, and for an ASGI 2 class it
also checks that the class takes a scope; then a call goes through the adapter. For
`asgiref.typing`,
the time of the import.""",
    "postgres_echo": """\
A gateway sends messages through PostgreSQL to two workers, which echo them to the gateway: first as
fast as possible, then at a steady rate, where the latency starts when a message is due and ends
with its echo. `bare loop` is a loop of batched statements that insert, select and delete the same
number of rows, without scopes, order or acknowledgements. `Channels` is channels_redis with
Channels' `Worker` on asgiref 3.13.0, with one channel for all. Processor time is the sum over all
processes of
a kind.""",
}


def has_plot(record: Record) -> bool:
    return all(table.kind is not Kind.GROWTH for table in record.tables)


def peers_table(record: Record) -> int | None:
    """Return the number of the table whose peers, named ``PEER, CASE``, ran the same cases."""
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
        parts.append(f"![{plain}: compared with others]({record.name}-peers.svg)")
    return "\n\n".join([*parts, tables_of(record), conditions_of(record)])


def page_of(records: Sequence[Record]) -> str:
    """Return the whole page, in the order of the records."""
    return "\n\n".join([BEGIN.rstrip(), *map(section_of, records)]) + "\n"
