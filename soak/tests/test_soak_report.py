"""The report of a run contains its measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plot import plot
from records import Ledger, Run, Tally
from report import asked, held, latencies, results, table, write_json, write_page
from verdict import Line, judge


def test_the_table_tells_what_does_not_hold() -> None:
    lines = [Line("threads at the end", "3", "≤ 3", True), Line("tasks", "7", "≤ 6", False)]
    assert table(lines).splitlines()[2:] == [
        "| threads at the end | 3 | ≤ 3 | yes |",
        "| tasks | 7 | ≤ 6 | **NO** |",
    ]


def test_each_kind_has_a_row_with_its_three_outcomes(run: Run) -> None:
    run.ledger.tallies["get"].failures.append("one")
    assert "| get | 100 | 99 | 1 | 1 |" in asked(run).splitlines()
    assert "| websocket messages | 12 | 11 | 1 | 0 |" in asked(run).splitlines()


def test_each_rest_has_a_row(run: Run) -> None:
    rows = held(run).splitlines()
    assert len(rows) == 2 + 3 + len(run.pauses)
    assert rows[-1] == "| at the end | 303 | 3 | 10 | 0 | 6 | 1 | 70,000 | 64,000 |"


def test_latencies_are_those_of_their_interval(run: Run) -> None:
    run.ledger.latencies = [(1000 + n / 100, n / 1000) for n in range(200)]
    first, second = latencies(run, 1.0)
    assert (first.seconds, first.p50, first.p99, first.answers) == (0.5, 49.5, 99, 100)
    assert (second.seconds, second.p50, second.p99, second.answers) == (1.5, 149.5, 199, 100)


def test_the_ledger_that_is_read_is_the_one_that_was_written(run: Run, tmp_path: Path) -> None:
    run.ledger.write(tmp_path / "ledger.json")
    assert Ledger.read(tmp_path / "ledger.json") == run.ledger


def test_two_stretches_add_up(run: Run) -> None:
    whole = Ledger()
    whole.add(run.ledger)
    whole.add(run.ledger)
    assert whole.tallies["get"] == Tally(200, 198, 2)
    assert whole.messages == Tally(24, 22, 2)
    assert (whole.plain.answered, whole.plain.may_be_cut) == (396, 8)
    assert len(whole.caused) == 2 * len(run.ledger.caused)
    assert whole.orders_answered == ["a", "b"] * 2
    assert len(whole.latencies) == 2 * len(run.ledger.latencies)


def test_json_holds_what_was_found_and_can_be_plotted(run: Run, tmp_path: Path) -> None:
    data = results(run, judge(run), {"Django": "1"})
    write_json(tmp_path / "results.json", data)
    read = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert read["holds"] is True
    assert read["end"]["threads"] == 3
    assert read["end"]["requests"] == 303
    assert len(read["samples"]) == len(run.samples)
    plot(read, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert all(text in drawn for text in ("RSS, MB", "threads", "p50", "p99"))


def test_the_page_gets_the_results_between_its_marks(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Soak\n<!-- results: begin -->\nof yesterday\n<!-- results: end -->\nafter\n")
    for _ in range(2):
        write_page(page, run, judge(run), {"Django": "1"})
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Soak\n<!-- results: begin -->")
    assert text.endswith("<!-- results: end -->\nafter\n")
    assert "of yesterday" not in text
    assert text.count("| threads at the end | 3 | ≤ 3 | yes |") == 1


def test_a_page_without_the_marks_is_refused(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Soak\n")
    with pytest.raises(ValueError, match=r"page\.md does not have the lines"):
        write_page(page, run, judge(run), {})
