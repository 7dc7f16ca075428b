"""The programs of benchmarks/: what they time, what they judge, and what they write."""

import asyncio
import random
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import harness
import measured
import pages
import postgres_cases
import postgres_echo
import pytest
import run
from record import Measured, Record, Table, compared, interval_of_median, this_machine

SLOW_CASES = """
import os, sys
sys.path.insert(0, {!r})
from measured import answer

seconds = {{"a": 6e-6}} if "THEIRS" in os.environ else {{"a": 2e-6, "other, a": 5e-6, "hop": 1e-6}}
answer({{name: lambda count, each=each: count * each for name, each in seconds.items()}})
"""


def case(*samples: float, name: str = "sensitive", target: float = 2, **more: Any) -> Measured:
    """Return a case with these ratios."""
    return compared(name, [10] * len(samples), [10 * each for each in samples], target, **more)


def record_of(*cases: Measured, **more: Any) -> Record:
    tables = [Table("one call", "µs", [*cases])]
    record = Record("bridge", "Calls", tables, 3, "idle", 0.5, "CPython", "2026-11-23")
    return replace(record, **more)


# Timing


def test_pyperf_times_each_case_in_both_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_cases.py").write_text(SLOW_CASES.format(str(harness.HERE)), "utf-8")
    theirs = tmp_path / "python"
    theirs.write_text(f'#!/bin/sh\nTHEIRS=1 exec {sys.executable} "$@"\n', "utf-8")
    theirs.chmod(0o755)
    monkeypatch.setattr(harness, "HERE", tmp_path)
    given = {"calls": 10, "target": 4, "limits": {"hop": 1.5}, "at_most": 9}
    timing = harness.Timing("one call", {"a": given}, {"hop": 5}, ("other",), theirs="others")
    table = harness.time_table("slow", timing, harness.Options(sys.executable, str(theirs), 2))
    [found] = table.cases
    assert [found.ours, found.theirs, *found.samples] == pytest.approx([2, 6, 3, 3])
    assert found.limits == pytest.approx({"1.5 x (hop)": 1.5, "limit": 9})
    assert found.peers | table.peers == pytest.approx({"other": 5, "hop": 1})
    assert not found.met


def test_each_round_starts_with_a_different_side() -> None:
    orders = list(harness.turns("one call", 3, ["theirs", "ours"]))
    assert orders == [["theirs", "ours"], ["ours", "theirs"], ["theirs", "ours"]]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_case_of_several_calls_at_once_makes_the_given_number_of_calls(at_once: int) -> None:
    running: list[int] = []
    seen: list[int] = []

    async def call() -> None:
        running.append(1)
        seen.append(len(running))
        await asyncio.sleep(0)
        running.pop()

    assert measured.each(call, at_once)(6) > 0
    assert (len(seen), max(seen)) == (6, at_once)


def test_a_trip_ends_with_the_last_echo_and_counts_each_once() -> None:
    async def trip() -> postgres_cases.Trip:
        echoes = postgres_cases.Echoes()

        async def put(number: int) -> None:
            for _ in range(2):
                asyncio.get_running_loop().call_soon(echoes.receive, number)

        return await echoes.run(put, 4_500)  # more than may be in flight at once

    found = asyncio.run(trip())
    assert 0 <= found["p50"] <= found["p99"] <= 1000 * found["seconds"]


# Judging


@pytest.mark.parametrize(
    ("target", "limit", "met"), [(3, 10, True), (3.1, 10, False), (3, 9, False)]
)
def test_a_ratio_below_its_target_or_a_time_above_its_limit_is_a_miss(
    target: float, limit: float, met: bool
) -> None:
    assert case(2, 3, 4, target=target, limits={"hop": limit}).met is met


def test_the_interval_holds_the_median_about_as_often_as_it_says() -> None:
    chance = random.Random(5)
    samples = [[chance.lognormvariate(0, 1) for _ in range(21)] for _ in range(2000)]
    held = sum(low <= 1 <= high for low, high in map(interval_of_median, samples))
    assert 1970 <= held < 2000
    assert interval_of_median([3, 1, 2, 9, 5, 4, 6]) == (1, 9)


def echoes_of(**changed: float) -> list[Table]:
    figures = {"here": 7_000.0, "bare loop": 10_000.0, "p50": 6.0, "p99": 25.0, **changed}
    sides = product(("here", "bare loop"), postgres_echo.ROLES)
    figures |= {f"{way}: {role}": 50.0 for way, role in sides}
    samples = postgres_echo.Samples(list, {name: [each] * 3 for name, each in figures.items()})
    return postgres_echo.tables_of({"100 scopes": samples})


@pytest.mark.parametrize(
    ("figure", "value", "missed"),
    [
        ("here", 7_000, []),
        ("bare loop", 11_700, ["echoes a second, beside bare loop"]),
        ("here", 6_999, ["echoes a second, at full speed"]),
        ("p50", 6.1, ["latency at 5,000 echoes a second"]),
        ("p99", 25.1, ["latency at 5,000 echoes a second"]),
    ],
)
def test_echoes_must_be_fast_enough_and_close_enough_to_a_bare_loop(
    figure: str, value: float, missed: list[str]
) -> None:
    tables = echoes_of(**{figure: value})
    assert [each.title for each in tables if not all(case.met for case in each.cases)] == missed


# A run


@pytest.mark.parametrize(
    ("target", "status", "last"),
    [
        (2, 0, "all targets are met"),
        (4, 1, "here 10.0 µs, ratio 3.0, target 4, met NO"),
        (None, 1, "bridge: it broke: no such interpreter"),
    ],
)
def test_a_missed_target_or_a_crash_fails_the_run_after_the_others_have_run(
    target: float | None, status: int, last: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def measure(name: str, options: object) -> tuple[list[Table], str]:
        if (needed := 2 if name == "local" else target) is None:
            raise OSError("no such interpreter")
        return record_of(case(3, 3, 3, target=needed)).tables, "idle"

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(run, "BENCHMARKS", {each: {"subject": "x"} for each in ("bridge", "local")})
    assert run.main(["python", "python", "--write", str(tmp_path / "left")]) == status
    assert capsys.readouterr().out.endswith(f"{last}\n")
    assert {path.stem for path in tmp_path.glob("left/*.svg")} >= {"local"}


def test_a_benchmark_that_cannot_run_here_is_reported_and_does_not_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert run.main(["python", "python", "--only", "wsgi_servers"]) == 0
    assert "not run: not installed: wrk" in capsys.readouterr().out


STORED = record_of(case(2.0, 2.1, 2.2))
REMARKS = ("within the noise", "better", "WORSE", "new", "measure again", "The stored run differs")


@pytest.mark.parametrize(
    ("now", "remarks"),
    [
        (STORED, ["within the noise"]),
        (record_of(case(1.9, 3.0, 3.1)), ["within the noise"]),
        (record_of(case(2.3, 2.4, 2.5)), ["better"]),
        (record_of(case(1.0, 1.1, 1.2)), ["WORSE"]),
        (record_of(case(3, name="another")), ["new"]),
        (replace(STORED, load=2.1), ["within the noise", "measure again"]),
        (replace(STORED, machine="another"), ["within the noise", "The stored run differs"]),
        (replace(STORED, conditions="another"), ["within the noise", "The stored run differs"]),
    ],
)
def test_a_report_marks_only_changes_beyond_the_noise_and_says_what_may_explain_them(
    now: Record, remarks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    run.store([STORED], run.RESULTS, tmp_path)
    shown = run.report(now)
    assert [each for each in REMARKS if each in shown] == remarks
    assert remarks == ["new"] or "| 2.1 (2 to 2.2) |" in shown


def test_a_record_reads_back_as_written_to_four_digits(tmp_path: Path) -> None:
    file = tmp_path / "bridge.json"
    record_of(replace(case(2.51234, 2.6), theirs=25.561)).write(file)
    assert '"samples": [ 2.512, 2.6 ],' in file.read_text("utf-8")
    rounded = replace(case(2.51234, 2.6), theirs=25.56, samples=[2.512, 2.6])
    assert Record.read(file) == record_of(rounded)


def test_a_record_does_not_name_who_built_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: "6.18.44-mine-v1")
    assert this_machine().endswith(" 6.18.44")


# The pages and plots


def test_a_plot_of_the_documentation_shows_the_stored_figures(tmp_path: Path) -> None:
    run.store(run.stored(run.RESULTS).values(), tmp_path, tmp_path)
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_text("utf-8") for path in run.PLOTS.glob("*.svg")}


def test_the_page_of_the_benchmarks_shows_every_benchmark_with_its_targets() -> None:
    page = (run.PLOTS / "index.md").read_text("utf-8")
    assert [n for n in harness.BENCHMARKS if f"figures of {n} with targets:" not in page] == []


@pytest.mark.parametrize("path", pages.marked_pages(), ids=str)
def test_a_page_shows_the_stored_figures(path: Path) -> None:
    page = path.read_text("utf-8")
    assert page == pages.with_figures(page, run.stored(run.RESULTS))


def test_figures_are_written_between_their_marks_and_nothing_else_changes() -> None:
    page = "a\n<!-- figures of bridge: begin -->\nold\n<!-- figures of bridge: end -->\nz\n"
    new = pages.with_figures(page, {"bridge": record_of(case(3, 3, 3))})
    assert new.startswith("a\n<!-- figures of bridge: begin -->\n\nMedians of 3 alternating rounds")
    row = "| sensitive | 30.0 µs | 10.0 µs | 3.0 |"
    assert new.endswith(f"\n{row}\n\n<!-- figures of bridge: end -->\nz\n")
    with pytest.raises(ValueError, match="'bridge'"):
        pages.with_figures(page, {})
