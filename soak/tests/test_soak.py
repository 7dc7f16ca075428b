"""Every line of the verdict fails on its own fault; the report shows it; real leaks are found."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from records import Ledger, Problem, RequestOutcome, Snapshot, SoakRun
from verdict import verdict_on

PROBLEM = Problem("get-1", "django.request", "OnPurpose")
ALLOWED = Problem("get-2", "asyncio", "")
OTHER = Problem("get-1", "django.request", "CancelledError")
ANSWERED, CUT = RequestOutcome.ANSWERED, RequestOutcome.CUT


def snapshot(calls: int, rare: int = 0) -> Snapshot:
    counts = Counter(threads=3, descriptors=10, tasks=6, loops=1, objects=70_000, rss_kb=64_000)
    served, messages = Counter(get=calls, rare=rare), Counter(received=9, answered=8)
    return Snapshot(counts, Counter(), Counter(list=7), served, served.copy(), messages)


@pytest.fixture
def run() -> SoakRun:
    """A run without any fault."""
    requests = Counter({("get", ANSWERED): 99, ("get", CUT): 1, ("rare", ANSWERED): 3})
    messages = Counter(sent=12, answered=8, cut=4)
    ledger = Ledger(requests, [], messages, Counter([PROBLEM]), {ALLOWED}, {"a", "b"}, {"c"})
    log, orders = [(PROBLEM, "failed"), (ALLOWED, "lost")], ["a", "b", "c"]
    start, warm, end = snapshot(0), snapshot(50, 1), snapshot(100, 3)
    pauses = [snapshot(60 + number) for number in range(5)]
    return SoakRun(ledger, start, warm, pauses, end, log, orders, "", -15)


def failed(run: SoakRun) -> list[str]:
    return [line.name for line in verdict_on(run) if not line.holds]


DIFFER = "kinds that load and application count differently"
MESSAGES = "websocket answers received ≤ answers sent ≤ messages received ≤ messages sent"
UNLOGGED, UNCAUSED = "errors caused and not logged, of 1", "errors logged and not caused"
NEW_ROW = "rows without an order, or duplicated, of 4"
OBJECTS, HEAP = "objects added since warm-up", "kB of malloc memory added since warm-up"
SLOPE = "kB of RSS that the slope over the pauses adds"
EXACT = ("threads", "descriptors", "children", "tasks", "loops")
#: Statements that break a run, and the lines that must fail.
FAULTS = {
    "pass": [],
    "ledger.failures.append('get-7')": ["requests that failed, of 103"],
    "ledger.messages['sent'] += 1": ["websocket messages neither answered nor cut on purpose"],
    "end.messages['received'] += 4": [MESSAGES],
    "end.messages['answered'] -= 4": [MESSAGES],
    "ledger.requests['garbage', CUT] = 2": ["kinds with fewer than 3 requests"],
    "end.ended['get'] -= 1": ["kinds with calls to the application that did not end"],
    "end.started['get'] = end.ended['get'] = 98": [DIFFER],
    "end.started['get'] = end.ended['get'] = 101": [DIFFER],
    "end.started['other'] = end.ended['other'] = 50": [DIFFER],
    "run.orders.remove('a')": ["answered orders without a row"],
    "run.orders.append('a')": [NEW_ROW],
    "run.orders.append('d')": [NEW_ROW],
    "run.log.clear()": [UNLOGGED],
    "run.log *= 2": [UNCAUSED],
    "run.log[0] = OTHER, ''": [UNLOGGED, UNCAUSED],
    "run.stderr = 'Fatal Python error'": ["lines on standard error"],
    "run.exit_status = -11": ["exit status after SIGTERM"],
    **{f"end.counts['{name}'] += 1": [f"{name} at the end"] for name in EXACT},
    # The rarest kind has two requests: an object from each is one more than allowed.
    "end.counts['objects'] += 2": [OBJECTS],
    "end.counts['blocks'] += 501": ["blocks of memory added since warm-up"],
    "end.counts['heap_kb'] += 1025": [HEAP],
    "end.counts['rss_kb'] += 4097": ["kB of RSS added since warm-up"],
    "for n in range(5): run.pauses[n].counts['rss_kb'] += 1100 * n": [SLOPE],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_line_and_no_other(run: SoakRun, fault: str) -> None:
    exec(fault, {**globals(), "run": run, "ledger": run.ledger, "end": run.end})
    assert failed(run) == FAULTS[fault]


def test_every_line_has_a_fault_that_fails_it(run: SoakRun) -> None:
    run.orders.append("d")  # their number is in the name of the line
    assert {line.name for line in verdict_on(run)} == set().union(*FAULTS.values())


def test_types_that_have_grown_are_named_with_the_largest_first(run: SoakRun) -> None:
    run.end.counts["objects"] += 500
    run.end.types.update({"list": 2, "app.Leaked": 498})
    [line] = (line for line in verdict_on(run) if not line.holds)
    assert line.detail == "grown: app.Leaked +498, list +2"


LEAK_LINES = {name: f"{name} at the end" for name in EXACT} | {"memory": HEAP}
#: The other leaks would hide leaked objects, so the objects have a separate run.
LEAKS = [{"objects": OBJECTS}, LEAK_LINES]


@pytest.mark.leaks
@pytest.mark.parametrize("leaks", LEAKS, ids="+".join)
def test_a_leak_on_purpose_is_found(leaks: dict[str, str], tmp_path: Path) -> None:
    from measurement import measure  # needs the load's packages
    from run import report

    # Leaks do not go away by waiting, so the run need not settle.
    run = asyncio.run(measure(tmp_path, 30, leaks, settling=(2, 2)))
    assert set(leaks.values()) <= set(failed(run))
    assert not [name for name in failed(run) if name.startswith("requests that failed")]
    assert all(f"| {name} | " in report(run, verdict_on(run)) for name in leaks.values())
