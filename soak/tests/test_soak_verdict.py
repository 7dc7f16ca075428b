"""Every line of the verdict fails on its own fault, and on no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from records import Caused, Run, Served, Tally
from verdict import judge, rarest_kind, slope


def failed(run: Run) -> list[str]:
    return [line.name for line in judge(run) if not line.holds]


def test_a_run_in_which_all_is_well_holds(run: Run) -> None:
    assert failed(run) == []


def a_request_fails(run: Run) -> None:
    run.ledger.tallies["get"].answered -= 1
    run.ledger.tallies["get"].failures.append("get-7: TimeoutError")


def a_request_of_wrk_fails(run: Run) -> None:
    run.ledger.plain.failed = 1


def a_message_is_not_answered(run: Run) -> None:
    run.ledger.messages.answered -= 1


def a_message_is_heard_that_nobody_sent(run: Run) -> None:
    run.end.heard = run.ledger.messages.sent + 1


def an_answer_is_heard_that_was_not_said(run: Run) -> None:
    run.end.said = run.ledger.messages.answered - 4


def a_kind_is_hardly_tried(run: Run) -> None:
    run.ledger.tallies["rare"] = Tally(2, 2)
    run.end.served["rare"] = Served(2, 2)


def a_call_does_not_end(run: Run) -> None:
    run.end.served["get"].ended -= 1


def an_answer_comes_without_a_call(run: Run) -> None:
    run.end.served["get"] = Served(98, 98)


def a_call_comes_twice(run: Run) -> None:
    run.end.served["get"] = Served(101, 101)


def wrk_is_served_more_than_it_asked(run: Run) -> None:
    run.end.served["plain"] = Served(203, 203)


def a_kind_is_served_that_nobody_sent(run: Run) -> None:
    run.end.served["other"] = Served(50, 50)


def no_http_is_served(run: Run) -> None:
    run.ledger.tallies["garbage"] = Tally(3, 3)
    run.end.served["garbage"] = Served(3, 3)


def an_order_is_lost(run: Run) -> None:
    run.orders.remove("a")


def an_order_is_written_twice(run: Run) -> None:
    run.orders.append("a")


def a_row_comes_from_nowhere(run: Run) -> None:
    run.orders.append("d")


def an_error_is_not_logged(run: Run) -> None:
    run.log.clear()


def an_error_is_logged_twice(run: Run) -> None:
    run.log *= 2


def an_error_is_logged_that_nobody_caused(run: Run) -> None:
    run.log.append({**run.log[0], "mark": ""})


def another_exception_is_logged_than_was_caused(run: Run) -> None:
    run.ledger.caused[0] = Caused("get-1", "django.request", "CancelledError")


def something_is_printed(run: Run) -> None:
    run.stderr = "Fatal Python error\n"


def it_crashes_at_its_end(run: Run) -> None:
    run.exit_status = -11


def objects_stay(run: Run) -> None:
    run.end.objects += 2


def blocks_stay(run: Run) -> None:
    run.end.blocks += 1000


def heap_stays(run: Run) -> None:
    run.end.heap_kb += 1025


def rss_is_larger_at_the_end(run: Run) -> None:
    run.end.rss_kb += 4097


def rss_grows_from_pause_to_pause(run: Run) -> None:
    for number, pause in enumerate(run.pauses):
        pause.rss_kb += 1100 * number


FAULTS: list[tuple[Callable[[Run], None], list[str]]] = [
    (a_request_fails, ["requests that failed", "requests neither answered nor cut by us"]),
    (a_request_of_wrk_fails, ["requests of wrk that failed"]),
    (a_message_is_not_answered, ["websocket messages neither answered nor cut by us"]),
    (a_message_is_heard_that_nobody_sent, ["messages answered ≤ said ≤ heard ≤ sent"]),
    (an_answer_is_heard_that_was_not_said, ["messages answered ≤ said ≤ heard ≤ sent"]),
    (a_kind_is_hardly_tried, ["requests of the rarest kind"]),
    (a_call_does_not_end, ["kinds with calls of the application that did not end"]),
    (an_answer_comes_without_a_call, ["kinds that load and application count differently"]),
    (a_call_comes_twice, ["kinds that load and application count differently"]),
    (wrk_is_served_more_than_it_asked, ["kinds that load and application count differently"]),
    (a_kind_is_served_that_nobody_sent, ["kinds that load and application count differently"]),
    (no_http_is_served, ["kinds that load and application count differently"]),
    (an_order_is_lost, ["answered orders without a row"]),
    (an_order_is_written_twice, ["rows that nobody ordered, or twice"]),
    (a_row_comes_from_nowhere, ["rows that nobody ordered, or twice"]),
    (an_error_is_not_logged, ["errors caused and not logged"]),
    (an_error_is_logged_twice, ["errors logged and not caused"]),
    (an_error_is_logged_that_nobody_caused, ["errors logged and not caused"]),
    (
        another_exception_is_logged_than_was_caused,
        ["errors caused and not logged", "errors logged and not caused"],
    ),
    (something_is_printed, ["lines on standard error"]),
    (it_crashes_at_its_end, ["exit status after SIGTERM"]),
    (objects_stay, ["objects more than after warm-up"]),
    (blocks_stay, ["blocks of memory more than after warm-up"]),
    (heap_stays, ["kB of malloc's more than after warm-up"]),
    (rss_is_larger_at_the_end, ["kB of RSS more than after warm-up"]),
    (rss_grows_from_pause_to_pause, ["kB of RSS more by the slope over the pauses"]),
]


@pytest.mark.parametrize(("fault", "lines"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_fails_its_line_and_no_other(
    run: Run, fault: Callable[[Run], None], lines: list[str]
) -> None:
    fault(run)
    assert failed(run) == lines


@pytest.mark.parametrize("what", ["threads", "descriptors", "children", "tasks", "loops"])
def test_one_more_than_after_warm_up_fails(run: Run, what: str) -> None:
    setattr(run.end, what, getattr(run.warm, what) + 1)
    assert failed(run) == [f"{what} at the end"]


def test_every_line_has_a_fault_that_fails_it(run: Run) -> None:
    counted = {
        f"{what} at the end" for what in ("threads", "descriptors", "children", "tasks", "loops")
    }
    assert {line.name for line in judge(run)} == counted.union(*(lines for _, lines in FAULTS))


def test_an_object_for_each_request_of_the_rarest_kind_is_more_than_allowed(run: Run) -> None:
    run.end.objects += rarest_kind(run.warm, run.end)
    assert failed(run) == ["objects more than after warm-up"]


def test_what_failed_is_told_with_the_mark_and_the_traceback(run: Run) -> None:
    run.log.append({**run.log[0], "mark": "get-9", "traceback": "ValueError: surprise"})
    (line,) = (line for line in judge(run) if not line.holds)
    assert "get-9" in line.detail
    assert "ValueError: surprise" in line.detail


def test_types_that_have_grown_are_named_with_the_largest_first(run: Run) -> None:
    run.end.objects += 500
    run.end.types = {"list": 9, "app.Leaked": 498}
    (line,) = (line for line in judge(run) if not line.holds)
    assert line.detail == "grown: app.Leaked +498, list +2"


def test_a_slope_is_not_moved_by_one_outlier() -> None:
    assert slope([(0, 0), (1, 2), (2, 4), (3, 99), (4, 8), (5, 10)]) == 2
    assert slope([]) == 0
