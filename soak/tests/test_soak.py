"""Every line of the verdict fails on its own fault; the report shows it; real leaks are found."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from records import Ledger, Problem, RequestOutcome, Snapshot, SoakRun
from verdict import verdict_on

PROBLEM = Problem("get-1", "django.request", "OnPurpose")
ALLOWED = Problem("get-2", "asyncio", "")


def snapshot(calls: int, closed: int = 0) -> Snapshot:
    served = Counter({"get": calls, "raise-in-talk": closed})
    found = Snapshot(threads=3, descriptors=10, tasks=6, loops=1, objects=70_000, rss_kb=64_000)
    found.started, found.ended, found.types = served, served.copy(), Counter({"list": 7})
    found.messages = Counter({"received": 9, "answered": 8})
    return found


@pytest.fixture
def run() -> SoakRun:
    """A run without any fault."""
    requests = Counter({("get", RequestOutcome.ANSWERED): 99, ("get", RequestOutcome.CUT): 1})
    requests["raise-in-talk", RequestOutcome.ANSWERED] = 3
    messages = Counter({"sent": 12, "answered": 11, "cut": 1})
    ledger = Ledger(requests, [], messages, Counter([PROBLEM]), {ALLOWED}, {"a", "b"}, {"c"})
    pauses = [snapshot(60 + number) for number in range(5)]
    log, orders = [(PROBLEM, "failed"), (ALLOWED, "lost")], ["a", "b", "c"]
    return SoakRun(
        ledger, snapshot(0), snapshot(50, 1), pauses, snapshot(100, 3), log, orders, "", -15
    )


def failed(run: SoakRun) -> list[str]:
    return [line.name for line in verdict_on(run) if not line.holds]


def test_a_run_without_faults_holds(run: SoakRun) -> None:
    assert failed(run) == []


DIFFER = "kinds that load and application count differently"
MESSAGES = "messages: answers heard ≤ said ≤ messages received ≤ sent"
UNLOGGED, UNCAUSED = "errors caused and not logged, of 1", "errors logged and not caused"
NEW_ROW = "rows without an order, or twice, of 4"
OTHER = Problem("get-1", "django.request", "CancelledError")
#: Statements that break a run, and the lines that must fail.
FAULTS = {
    "ledger.failures.append('get-7')": ["requests that failed, of 103"],
    "ledger.messages['sent'] += 1": ["websocket messages neither answered nor cut by us"],
    "end.messages['received'] += 4": [MESSAGES],
    "end.messages['answered'] -= 4": [MESSAGES],
    "ledger.requests['garbage', CUT] = 2": ["kinds with fewer than 3 requests"],
    "end.ended['get'] -= 1": ["kinds with calls of the application that did not end"],
    "end.started['get'] = end.ended['get'] = 98": [DIFFER],
    "end.started['get'] = end.ended['get'] = 101": [DIFFER],
    "end.started['other'] = end.ended['other'] = 50": [DIFFER],
    "ledger.requests['garbage', CUT] = end.started['garbage'] = end.ended['garbage'] = 3": [DIFFER],
    "run.orders.remove('a')": ["answered orders without a row"],
    "run.orders.append('a')": [NEW_ROW],
    "run.orders.append('d')": [NEW_ROW],
    "run.log.clear()": [UNLOGGED],
    "run.log *= 2": [UNCAUSED],
    "run.log[0] = OTHER, ''": [UNLOGGED, UNCAUSED],
    "run.stderr = 'Fatal Python error'": ["lines on standard error"],
    "run.exit_status = -11": ["exit status after SIGTERM"],
    "end.threads += 1": ["threads at the end"],
    "end.descriptors += 1": ["descriptors at the end"],
    "end.children += 1": ["children at the end"],
    "end.tasks += 1": ["tasks at the end"],
    "end.loops += 1": ["loops at the end"],
    # The rarest kind has two requests: an object of each is one more than allowed.
    "end.objects += 2": ["objects more than after warm-up"],
    "end.blocks += 501": ["blocks of memory more than after warm-up"],
    "end.heap_kb += 1025": ["kB of malloc's more than after warm-up"],
    "end.rss_kb += 4097": ["kB of RSS more than after warm-up"],
    "for n in range(5): run.pauses[n].rss_kb += 1100 * n": [
        "kB of RSS more by the slope over the pauses"
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_line_and_no_other(run: SoakRun, fault: str) -> None:
    names = {
        "run": run,
        "ledger": run.ledger,
        "end": run.end,
        "OTHER": OTHER,
        "CUT": RequestOutcome.CUT,
    }
    exec(fault, names)
    assert failed(run) == FAULTS[fault]


def test_every_line_has_a_fault_that_fails_it(run: SoakRun) -> None:
    run.orders.append("d")  # their number is in the name of the line
    assert {line.name for line in verdict_on(run)} == {
        name for each in FAULTS.values() for name in each
    }


def test_types_that_have_grown_are_named_with_the_largest_first(run: SoakRun) -> None:
    run.end.objects += 500
    run.end.types.update({"list": 2, "app.Leaked": 498})
    [line] = (line for line in verdict_on(run) if not line.holds)
    assert line.detail == "grown: app.Leaked +498, list +2"


#: The others would hide leaked objects, so these have a run of their own.
LEAKS = [("objects",), ("threads", "descriptors", "children", "tasks", "loops", "memory")]
LEAK_LINES = {
    "objects": "objects more than after warm-up",
    "memory": "kB of malloc's more than after warm-up",
}


@pytest.mark.leaks
@pytest.mark.parametrize("leaks", LEAKS, ids="+".join)
def test_a_leak_on_purpose_is_found(leaks: tuple[str, ...], tmp_path: Path) -> None:
    from measurement import Plan, measure  # needs what the load needs
    from run import report

    # Leaks do not go away by waiting, so the run need not settle.
    plan = Plan(seconds=30, settling=(2, 2), stretches=2, leaks=leaks)
    run = asyncio.run(measure(plan, tmp_path))
    lines = {LEAK_LINES.get(leak, f"{leak} at the end") for leak in leaks}
    assert lines <= set(failed(run))
    assert not [name for name in failed(run) if name.startswith("requests that failed")]
    assert all(f"| {name} | " in report(run, verdict_on(run)) for name in lines)
