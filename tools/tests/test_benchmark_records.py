"""Benchmark records survive their run, and a comparison of two reports only real changes."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from changes import Direction, changes, report
from record import Kind, Machine, Measured, Record, Table, interval_of_median

MACHINE = Machine("CPython 3.13.0", "A CPU", 2, "Linux 6.1")


def case(name: str, *samples: float, target: float = 2) -> Measured:
    return Measured(name, 10.123456, 30.9, list(samples), target, met=True, bounds={"hop": 12.5})


def record(*cases: Measured, kind: Kind = Kind.COST) -> Record:
    table = Table("one call", kind, "µs", list(cases), {"hop": 12.5})
    return Record("bridge", "The bridge", [table], 3, "idle", 0.25, MACHINE, "2026-11-23")


def directions(then: Record, now: Record) -> dict[str, Direction]:
    return {change.case: change.direction for change in changes(then, now)}


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


# Comparing


def test_a_rise_beyond_the_noise_of_both_runs_is_better() -> None:
    then, now = record(case("a", 2.0, 2.1, 2.2)), record(case("a", 2.3, 2.4, 2.5))
    assert directions(then, now) == {"a": Direction.BETTER}
    assert directions(now, then) == {"a": Direction.WORSE}


def test_a_change_within_the_noise_of_either_run_is_none() -> None:
    calm, noisy = record(case("a", 2.0, 2.0, 2.0)), record(case("a", 1.9, 3.0, 3.1))
    assert directions(calm, noisy) == {"a": Direction.NOISE}
    assert directions(noisy, calm) == {"a": Direction.NOISE}


def test_more_growth_is_worse() -> None:
    then, now = record(case("a", 0, 0), kind=Kind.GROWTH), record(case("a", 8, 9), kind=Kind.GROWTH)
    assert directions(then, now) == {"a": Direction.WORSE}


def test_cases_that_came_and_went_are_told() -> None:
    found = directions(record(case("a", 2), case("b", 2)), record(case("b", 2), case("c", 2)))
    assert found == {"b": Direction.NOISE, "c": Direction.NEW, "a": Direction.GONE}


def test_the_report_shows_both_ratios_and_marks_what_changed() -> None:
    then = record(case("a", 2.0, 2.1, 2.2), case("b", 1, 2, 3))
    text = report(then, record(case("a", 1.0, 1.1, 1.2), case("b", 2, 2, 2)))
    assert "| a | 2.1 (2 to 2.2) | 1.1 (1 to 1.2) | **WORSE** |" in text
    assert "| b | 2 (1 to 3) | 2 (2 to 2) | within the noise |" in text
    assert "CPU" not in text


@pytest.mark.parametrize(
    "other",
    [
        replace(record(), machine=replace(MACHINE, cpu="Another CPU")),
        replace(record(), conditions="one core kept busy"),
    ],
    ids=["machine", "conditions"],
)
def test_the_report_says_when_the_machine_or_what_it_did_is_not_the_same(other: Record) -> None:
    assert "This alone may be what changed." in report(record(), other)


def test_a_record_names_neither_the_host_nor_who_built_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.release", lambda: "6.18.44-mine-v1")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert Machine.here().kernel == "Linux 6.18.44"
