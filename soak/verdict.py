"""The verdict: one line for each condition that must hold, each of which can fail.

Exact counts are impossible under load, so the verdict compares the counts at rest after warm-up
with those at the end.

- *Was everything answered?* The load's ledger, the process's own counts and the database's rows are
  three accounts of the same requests, and must agree.
- *Was anything wrong?* The log must contain each error that the load caused on purpose, once and
  with its mark, and no other record from warnings up.
- *Was anything left behind?* The numbers of threads, descriptors, processes, tasks and loops are
  exact; memory has an allowance (`_memory`).
"""

from __future__ import annotations

import signal
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from records import Ledger, Run, Snapshot

__all__ = ["Line", "judge"]

#: RSS counts pages, and a page with one live object stays. Runs of 40 to 300 seconds that left no
#: object behind had 0.9 to 2.9 MB more at the end, and a slope that made 1.8 to 2.6 MB; more in the
#: first minutes than later. Leaked bytes show up in the blocks and the heap.
RSS_ALLOWANCE_KB = 4096
#: These are not HTTP requests, so they never reach the application.
NEVER_BEGUN = ("garbage", "half-a-head")
#: The websocket kind in which the server answers the last message by closing the connection.
ANSWERED_BY_CLOSING = "raise-in-talk"
#: A kind with fewer requests than this proves nothing.
LEAST_OF_A_KIND = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A condition, the value found, the allowed value, and details for a failure."""

    name: str
    found: str
    allowed: str
    holds: bool
    detail: str = ""


def judge(run: Run) -> list[Line]:
    """Return all lines, in the order of the report."""
    judges: list[Callable[[Run], Iterator[Line]]] = [_answers, _accounts, _errors, _rests, _memory]
    return [line for each in judges for line in each(run)]


# Was everything answered?


def _answers(run: Run) -> Iterator[Line]:
    ledger = run.ledger
    tallies = ledger.tallies.values()
    sent = sum(tally.sent for tally in tallies)
    failures = [failure for tally in tallies for failure in tally.failures]
    yield _count("requests that failed", len(failures), 0, f" of {sent:,}", _some(failures))
    plain = ledger.plain
    yield _count(
        "requests of wrk that failed", plain.failed, 0, f" of {plain.answered:,}", plain.said
    )
    lost = sum(abs(tally.sent - tally.answered - tally.cut) for tally in tallies)
    yield _count("requests neither answered nor cut by us", lost, 0)
    messages = ledger.messages
    lost = abs(messages.sent - messages.answered - messages.cut)
    yield _count(
        "websocket messages neither answered nor cut by us", lost, 0, f" of {messages.sent:,}"
    )
    kind, rarest = min(
        ((kind, tally.sent) for kind, tally in ledger.tallies.items()),
        key=lambda each: each[1],
        default=("any", 0),
    )
    name = "requests of the rarest kind"
    yield Line(name, str(rarest), f"≥ {LEAST_OF_A_KIND}", rarest >= LEAST_OF_A_KIND, kind)


def _accounts(run: Run) -> Iterator[Line]:
    served = run.end.served
    open_calls = [kind for kind, each in served.items() if each.begun != each.ended]
    yield _count(
        "kinds with calls of the application that did not end",
        len(open_calls),
        0,
        "",
        _some(open_calls),
    )
    differing = list(_kinds_that_differ(run.ledger, run.end))
    yield _count(
        "kinds that load and application count differently", len(differing), 0, "", _some(differing)
    )
    messages, closed = run.ledger.messages, run.ledger.tally(ANSWERED_BY_CLOSING).answered
    order = [messages.answered - closed, run.end.said, run.end.heard, messages.sent]
    yield Line(
        "messages answered ≤ said ≤ heard ≤ sent",
        " ≤ ".join(f"{each:,}" for each in order),
        "in order",
        order == sorted(order),
    )
    rows = Counter(run.orders)
    answered = set(run.ledger.orders_answered)
    missing = answered - rows.keys()
    yield _count(
        "answered orders without a row",
        len(missing),
        0,
        f" of {len(answered):,}",
        _some(sorted(missing)),
    )
    unknown = rows.keys() - answered - set(run.ledger.orders_cut)
    extra = [*unknown, *(mark for mark, count in rows.items() if count > 1)]
    yield _count(
        "rows that nobody ordered, or twice",
        len(extra),
        0,
        f" of {len(rows):,}",
        _some(sorted(extra)),
    )


def _kinds_that_differ(ledger: Ledger, end: Snapshot) -> Iterator[str]:
    """Yield each kind with an answer without a started call, or a call without a request."""
    for kind, tally in ledger.tallies.items():
        begun = end.served[kind].begun if kind in end.served else 0
        least, most = (0, 0) if kind in NEVER_BEGUN else (tally.answered, tally.sent)
        if not least <= begun <= most:
            yield f"{kind}: {begun} begun, {tally.answered} answered of {tally.sent} sent"
    plain = ledger.plain
    begun = end.served["plain"].begun if "plain" in end.served else 0
    if not plain.answered <= begun <= plain.answered + plain.may_be_cut:
        yield f"plain: {begun} begun, {plain.answered} answered, {plain.may_be_cut} may be cut"
    for kind in end.served.keys() - ledger.tallies.keys() - {"plain"}:
        yield f"{kind}: the load knows nothing of it"


# Was anything wrong?


def _errors(run: Run) -> Iterator[Line]:
    caused = Counter((each.mark, each.logger, each.exception) for each in run.ledger.caused)
    logged = Counter((each["mark"], each["logger"], each["exception"]) for each in run.log)
    missing = [" ".join(each) for each in (caused - logged).elements()]
    yield _count(
        "errors caused and not logged", len(missing), 0, f" of {caused.total():,}", _some(missing)
    )
    more = logged - caused
    texts = [
        f"{each['logger']}: {each['message']} ({each['mark'] or 'no mark'})\n{each['traceback']}"
        for each in run.log
        if (each["mark"], each["logger"], each["exception"]) in more
    ]
    yield _count(
        "errors logged and not caused", more.total(), 0, f" of {logged.total():,}", _some(texts)
    )
    lines = run.stderr.splitlines()
    yield _count("lines on standard error", len(lines), 0, "", run.stderr[:2000])
    status, expected = run.exit_status, -signal.SIGTERM
    yield Line("exit status after SIGTERM", str(status), str(int(expected)), status == expected)


# Was anything left behind?


def _rests(run: Run) -> Iterator[Line]:
    for what in ("threads", "descriptors", "children", "tasks", "loops"):
        before, after = getattr(run.warm, what), getattr(run.end, what)
        detail = ""
        if what == "threads":
            more = Counter(run.end.thread_names) - Counter(run.warm.thread_names)
            detail = f"more than after warm-up: {', '.join(more.elements())}"
        yield _count(f"{what} at the end", after, before, "", detail)


def _memory(run: Run) -> Iterator[Line]:
    warm, end = run.warm, run.end
    # Caches make the counts vary a little. Half the number of requests of the rarest kind is low
    # enough to find a kind that leaks one object per request, however rare it is.
    allowed = rarest_kind(warm, end) // 2
    growth = end.objects - warm.objects
    detail = "grown: " + ", ".join(_grown_types(warm, end))
    yield _count("objects more than after warm-up", growth, allowed, "", detail)
    requests = max(1, end.requests - warm.requests)
    blocks = end.blocks - warm.blocks
    yield _count("blocks of memory more than after warm-up", blocks, 10 * allowed)
    heap, rss = end.heap_kb - warm.heap_kb, end.rss_kb - warm.rss_kb
    yield _count("kB of malloc's more than after warm-up", heap, RSS_ALLOWANCE_KB // 4)
    yield _count(
        "kB of RSS more than after warm-up", rss, RSS_ALLOWANCE_KB, f", {requests:,} requests"
    )
    drift = round(slope([(each.seconds, each.rss_kb) for each in run.pauses]) * _length(run))
    yield _count("kB of RSS more by the slope over the pauses", drift, RSS_ALLOWANCE_KB)


def rarest_kind(warm: Snapshot, end: Snapshot) -> int:
    """Return how many calls of the rarest kind ended between the two snapshots."""
    return min(
        (
            each.ended - (warm.served[kind].ended if kind in warm.served else 0)
            for kind, each in end.served.items()
        ),
        default=0,
    )


def slope(points: list[tuple[float, int]]) -> float:
    """Return the growth per second: the median over all pairs, which one outlier cannot move."""
    pairs = combinations(points, 2)
    return statistics.median([(y - x) / (t - s) for (s, x), (t, y) in pairs if t != s] or [0.0])


def _length(run: Run) -> float:
    return run.pauses[-1].seconds - run.pauses[0].seconds if run.pauses else 0.0


def _grown_types(warm: Snapshot, end: Snapshot) -> list[str]:
    growth = Counter(end.types)
    growth.subtract(warm.types)
    return [f"{name} +{count}" for name, count in growth.most_common(12) if count > 0]


def _count(name: str, found: int, allowed: int, of: str = "", detail: str = "") -> Line:
    return Line(
        name, f"{found:,}{of}", f"≤ {allowed:,}" if allowed else "0", found <= allowed, detail
    )


def _some(texts: list[str]) -> str:
    more = f"\n... and {len(texts) - 5} more" if len(texts) > 5 else ""
    return "\n".join(texts[:5]) + more
