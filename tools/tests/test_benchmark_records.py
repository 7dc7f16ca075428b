"""Benchmark records survive their run, and a comparison of two reports only real changes."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from record import (
    Measured,
    Record,
    Table,
    compared,
    compared_rates,
    interval_of_median,
    this_machine,
)
from tables import tables_of

MACHINE = "CPython 3.13.0, A CPU, 2 cores, Linux 6.1"


def case(name: str, *samples: float, target: float = 2) -> Measured:
    return Measured(name, 10.123456, True, 30.9, list(samples), target, {"hop": 12.5})


def record(*cases: Measured) -> Record:
    table = Table("one call", "µs", list(cases), {"hop": 12.5})
    return Record("bridge", "The bridge", [table], 3, "idle", 0.25, MACHINE, "2026-11-23")


def changes(then: Record, now: Record) -> dict[str, str]:
    """Return the last cell of each case's row."""
    rows = [line.split(" | ") for line in tables_of(now, then=then).splitlines()[2:]]
    return {row[0].strip("| "): row[-1].strip("| ") for row in rows if len(row) > 1}


def test_a_record_is_read_as_it_was_written_to_four_digits(tmp_path: Path) -> None:
    file = tmp_path / "bridge.json"
    record(case("sensitive", 2.51234, 2.6)).write(file)
    [table] = Record.read(file).tables
    assert table.cases == [replace(case("sensitive", 2.512, 2.6), ours=10.12)]
    assert replace(Record.read(file), tables=[]) == replace(record(), tables=[])


def test_a_case_s_samples_stand_on_one_line_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bridge.json"
    record(case("sensitive", 2.5, 2.6, 2.7)).write(file)
    assert '"samples": [ 2.5, 2.6, 2.7 ],' in file.read_text("utf-8")


# Judging


@pytest.mark.parametrize(("target", "met"), [(3, True), (3.1, False)])
def test_a_ratio_below_its_target_is_a_miss(target: float, met: bool) -> None:
    assert compared("a", [10, 20, 30], [30, 60, 30], target).met is met


@pytest.mark.parametrize(("limit", "met"), [(20, True), (19, False)])
def test_a_time_above_its_limit_is_a_miss(limit: float, met: bool) -> None:
    assert compared("a", [10, 20, 30], [90, 90, 90], 1, limits={"hop": limit}).met is met


def test_a_higher_rate_is_better() -> None:
    rates = compared_rates("a", [200, 300], [100, 100], 2)
    assert (rates.ours, rates.theirs, rates.samples, rates.met) == (250, 100, [2, 3], True)


# The interval


def test_few_samples_allow_no_more_than_their_whole_range() -> None:
    assert interval_of_median([3, 1, 2, 9, 5, 4, 6]) == (1, 9)


def test_one_outlier_of_many_samples_does_not_widen_the_interval() -> None:
    calm = [2 + number / 100 for number in range(21)]
    assert interval_of_median([*calm[:-1], 500.0]) == interval_of_median(calm)


def test_the_interval_holds_the_median_about_as_often_as_it_says() -> None:
    chance = random.Random(5)
    samples = [[chance.lognormvariate(0, 1) for _ in range(21)] for _ in range(2000)]
    intervals = [interval_of_median(each) for each in samples]
    held = sum(low <= 1 <= high for low, high in intervals)
    assert 1970 <= held < 2000


# Comparing with the stored run


def test_a_rise_beyond_the_noise_of_both_runs_is_better() -> None:
    then, now = record(case("a", 2.0, 2.1, 2.2)), record(case("a", 2.3, 2.4, 2.5))
    assert changes(then, now) == {"a": "**better**"}
    assert changes(now, then) == {"a": "**WORSE**"}


def test_a_change_within_the_noise_of_either_run_is_none() -> None:
    calm, noisy = record(case("a", 2.0, 2.0, 2.0)), record(case("a", 1.9, 3.0, 3.1))
    assert changes(calm, noisy) == {"a": "within the noise"}
    assert changes(noisy, calm) == {"a": "within the noise"}


def test_a_case_that_was_not_stored_is_new() -> None:
    found = changes(record(case("a", 2), case("b", 2)), record(case("b", 2), case("c", 2)))
    assert found == {"b": "within the noise", "c": "new"}


def test_a_table_shows_both_ratios_and_marks_changes() -> None:
    then = record(case("a", 2.0, 2.1, 2.2), case("b", 1, 2, 3))
    text = tables_of(record(case("a", 1.0, 1.1, 1.2), case("b", 2, 2, 2)), then=then)
    assert "| 1.1 | 2 | 12.5 µs: hop | yes | 2.1 (2 to 2.2) | **WORSE** |" in text
    assert "| 2.0 | 2 | 12.5 µs: hop | yes | 2 (1 to 3) | within the noise |" in text


def test_a_record_names_neither_the_host_nor_who_built_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.release", lambda: "6.18.44-mine-v1")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert this_machine().endswith(", Linux 6.18.44")
