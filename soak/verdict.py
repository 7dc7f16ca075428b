"""The verdict: one line for each condition that must hold, each of which can fail.

Exact counts are impossible under load, so the verdict compares the counts at rest after warm-up
with those at the end.

- *Was everything answered?* The load's ledger, the process's own counts and the database's rows are
  three accounts of the same requests, and must agree.
- *Was anything wrong?* The log must contain each error that the load caused on purpose, once and
  with its mark, and no other record at warning level or above.
- *Was anything left behind?* The numbers of threads, descriptors, processes, tasks and loops are
  exact; memory has an allowance (`_memory`).
"""

import signal
import statistics
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from records import RequestOutcome, SoakRun

#: RSS counts pages, and a page with one live object stays. Runs of 40 to 300 seconds that left no
#: object behind had 0.9 to 2.9 MB more at the end, and a slope that added 1.8 to 2.6 MB; RSS grew
#: faster in the first minutes. Leaked bytes show up in the blocks and the heap.
RSS_ALLOWANCE_KB = 4096
#: A kind with fewer requests than this proves nothing.
LEAST_OF_A_KIND = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, the value found, the allowed value, and details for a failure."""

    name: str
    found: str
    allowed: str
    holds: bool
    detail: str = ""


def verdict_on(run: SoakRun) -> list[Condition]:
    """Return all lines, in the order of the report."""
    return [*_answers(run), *_accounts(run), *_errors(run), *_rests(run), *_memory(run)]


def _answers(run: SoakRun) -> Iterator[Condition]:
    sent, messages = run.ledger.sent(), run.ledger.messages
    yield _none(f"requests that failed, of {sent.total():,}", run.ledger.failures)
    unknown = abs(messages["sent"] - messages["answered"] - messages["cut"])
    yield _at_most("websocket messages neither answered nor cut on purpose", unknown, 0)
    rare = [f"{kind}: {count}" for kind, count in sent.items() if count < LEAST_OF_A_KIND]
    yield _none(f"kinds with fewer than {LEAST_OF_A_KIND} requests", rare)


def _accounts(run: SoakRun) -> Iterator[Condition]:
    end, ledger, rows, sent = run.end, run.ledger, Counter(run.orders), run.ledger.sent()
    open_calls = [kind for kind in end.started if end.started[kind] != end.ended[kind]]
    yield _none("kinds with calls to the application that did not end", open_calls)
    differ: list[str] = []
    for kind in sent.keys() | end.started.keys():
        counts = [ledger.requests[kind, RequestOutcome.ANSWERED], end.started[kind], sent[kind]]
        # No answer without a started call, and no call without a request.
        if counts != sorted(counts):
            differ.append(f"{kind}: answered, started, sent: {counts}")
    yield _none("kinds that load and application count differently", differ)
    heard, served, said = ledger.messages["answered"], end.messages, ledger.messages["sent"]
    order = [heard, served["answered"], served["received"], said]
    found = " ≤ ".join(f"{each:,}" for each in order)
    name = "websocket answers received ≤ answers sent ≤ messages received ≤ messages sent"
    yield Condition(name, found, "in order", order == sorted(order))
    yield _none("answered orders without a row", ledger.orders_answered - rows.keys())
    unknown = rows.keys() - ledger.orders_answered - ledger.orders_cut
    twice = {mark for mark, count in rows.items() if count > 1}
    yield _none(f"rows without an order, or duplicated, of {rows.total():,}", unknown | twice)


def _errors(run: SoakRun) -> Iterator[Condition]:
    caused, logged = run.ledger.caused, Counter(problem for problem, _ in run.log)
    missing = [" ".join(problem) for problem in (caused - logged).elements()]
    yield _none(f"errors caused and not logged, of {caused.total():,}", missing)
    more = (logged - caused).keys() - run.ledger.tolerated
    texts = [f"{' '.join(problem)}: {text}" for problem, text in run.log if problem in more]
    yield _none("errors logged and not caused", texts)
    yield _none("lines on standard error", run.stderr.splitlines())
    status, expected = str(run.exit_status), str(-signal.SIGTERM)
    yield Condition("exit status after SIGTERM", status, expected, status == expected)


def _rests(run: SoakRun) -> Iterator[Condition]:
    more = run.end.thread_names - run.warm.thread_names
    detail = f"more threads than after warm-up: {', '.join(more.elements())}"
    for name in ("threads", "descriptors", "children", "tasks", "loops"):
        yield _at_most(f"{name} at the end", run.end.counts[name], run.warm.counts[name], detail)


def _memory(run: SoakRun) -> Iterator[Condition]:
    warm, end = run.warm, run.end
    # Caches make the counts vary a little. Half the number of requests of the rarest kind is low
    # enough to find a kind that leaks one object per request, however rare it is.
    objects = min((end.ended - warm.ended).values(), default=0) // 2
    # A run of 60 seconds that left no object behind had 288 blocks more at the end.
    blocks = max(500, 10 * objects)
    growth = (end.types - warm.types).most_common(12)
    grown = "grown: " + ", ".join(f"{name} +{count}" for name, count in growth)
    rss = [pause.counts["rss_kb"] for pause in run.pauses]
    slope = statistics.linear_regression(range(len(rss)), rss).slope * (len(rss) - 1)
    for name, label, allowed in (
        ("objects", "objects", objects),
        ("blocks", "blocks of memory", blocks),
        ("heap_kb", "kB of malloc memory", 1024),
        ("rss_kb", "kB of RSS", RSS_ALLOWANCE_KB),
    ):
        more = end.counts[name] - warm.counts[name]
        yield _at_most(f"{label} added since warm-up", more, allowed, grown)
    name = "kB of RSS that the slope over the pauses adds"
    yield _at_most(name, round(slope), RSS_ALLOWANCE_KB, grown)


def _none(name: str, found: Collection[str]) -> Condition:
    more = [f"... and {len(found) - 5} more"] if len(found) > 5 else []
    return _at_most(name, len(found), 0, "\n".join([*sorted(found)[:5], *more]))


def _at_most(name: str, found: int, allowed: int, detail: str = "") -> Condition:
    return Condition(name, f"{found:,}", f"≤ {allowed:,}", found <= allowed, detail)
