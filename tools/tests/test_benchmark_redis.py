"""What the benchmark of messages through Redis counts, and what it makes of that."""

import asyncio
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from changes import report
from record import Kind, Machine, Record, Table
from redis_messages import Case, Order, Times, Way, paced
from redis_results import BRISK, STEADY, Carried, Results, p99, tables_of
from tables import tables_of as texts_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it measures on Linux only")

FEW, MANY = Case(1, 100), Case(2, 10_000)
COMPUTED = {"producer": 0.2, "Redis": 0.1, "workers": 0.3}


def carried(rate: float, latencies: Sequence[float] = (0.001,) * 100) -> Carried:
    return Carried(len(latencies) / rate, latencies, COMPUTED)


def results(case: Case, ours: Sequence[float], bare: Sequence[float]) -> Results:
    """Rounds of ours and of the bare loop, in messages a second; Channels has 100 in each."""
    found = Results(case, first=5000, memory=4000)
    for rates in zip(Way, (ours, bare, [100.0] * len(ours)), strict=True):
        for rate in rates[1]:
            found.note(rates[0], 0, carried(rate))
            found.note(rates[0], STEADY, carried(STEADY))
            if rates[0] is not Way.CHANNELS:
                found.note(rates[0], BRISK, carried(BRISK))
    return found


def record(tables: list[Table]) -> Record:
    machine = Machine("CPython 3.13.0", "A CPU", 2, "Linux 6.1")
    return Record("redis_streams", "Redis", tables, 3, "idle", 0.25, machine, "2026-11-23")


def table(kind: Kind, title: str, tables: Sequence[Table]) -> Table:
    [found] = [each for each in tables if each.kind is kind and title in each.title]
    return found


# Counting


def test_what_one_process_notes_the_other_sees() -> None:
    ours = Times()
    theirs = Times(ours.descriptor)
    theirs.receive(3)
    assert ours.received[3] > 0
    assert ours.received[4] == 0


def test_a_message_that_comes_again_counts_as_one_and_keeps_its_time() -> None:
    times, order = Times(), Order(0, 2, 0)
    times.receive(1)
    first = times.received[1]
    times.receive(1)
    assert (times.received[1], times.duplicates(order)) == (first, 1)


def test_a_lot_is_received_when_none_of_it_is_missing() -> None:
    times, order = Times(), Order(5, 3, 0)
    for number in (5, 7):
        times.receive(number)
    assert times.missing(order) == 6
    times.receive(6)
    assert times.missing(order, 6) is None


def test_a_lot_takes_from_its_first_call_to_its_last_receipt() -> None:
    times, order = Times(), Order(5, 2, 0)
    times.sent[5], times.sent[6] = 10.0, 11.0
    times.received[5], times.received[6] = 14.0, 12.0
    assert times.seconds(order) == 4
    assert times.latencies(order) == [4, 1]


def test_an_order_is_read_as_it_was_written() -> None:
    order = Order(5, 2, 300.0)
    assert Order.read(f"{order}\n") == order


def test_every_message_of_an_order_is_sent_once_and_in_order() -> None:
    async def numbers() -> list[tuple[int, bool]]:
        return [each async for each in paced(Order(5, 3, 0), times)]

    times = Times()
    assert asyncio.run(numbers()) == [(5, True), (6, True), (7, False)]
    assert sorted(times.sent[5:8]) == list(times.sent[5:8])
    assert times.sent[8] == 0


def test_a_sender_that_does_not_keep_up_makes_messages_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They count from when they were due, and are told to be due together."""
    now = 100.0
    monkeypatch.setattr("redis_messages.time", SimpleNamespace(monotonic=lambda: now))

    async def send_slowly() -> list[bool]:
        nonlocal now
        due_too = []
        async for _, more in paced(Order(0, 4, 10), times):
            due_too.append(more)
            now += 1
        return due_too

    times = Times()
    assert asyncio.run(asyncio.wait_for(send_slowly(), 10)) == [False, True, True, False]
    assert [round(each, 1) for each in times.sent[:4]] == [100, 100.1, 100.2, 100.3]


# Judging


def test_ninety_nine_of_a_hundred_messages_take_no_longer_than_p99() -> None:
    assert p99(carried(100, [number / 1000 for number in range(100, 0, -1)])) == 99


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    found = table(Kind.THROUGHPUT, "bare", tables_of([results(FEW, [50, 60, 90], [100] * 3)]))
    [case] = found.cases
    assert (case.ours, case.theirs, case.ratio, case.met) == (60, 100, 0.6, True)


@pytest.mark.parametrize(("rate", "beside"), [(59, "bare"), (299, "Channels")])
def test_a_missed_target_is_said(rate: float, beside: str) -> None:
    tables = tables_of([results(FEW, [rate] * 3, [100] * 3)])
    [case] = table(Kind.THROUGHPUT, beside, tables).cases
    assert not case.met
    assert "| NO |" in texts_of(record(tables))


def test_latency_and_processor_time_are_shown_of_each_way_without_a_target() -> None:
    text = texts_of(record(tables_of([results(FEW, [100] * 3, [100] * 3)])))
    assert (
        "| p99 in ms, at 200 messages a second | here | bare streams | Channels |\n"
        "|---|---|---|---|\n"
        "| 1 worker, 100 scopes | 1.0 | 1.0 | 1.0 |"
    ) in text
    assert "| here: producer | here: Redis | here: workers | bare streams: producer |" in text
    assert "| 1 worker, 100 scopes | 2,000 | 1,000 | 3,000 |" in text
    assert "| here, 5,000/s | bare streams, 5,000/s | here, 200/s |" in text
    assert "| 1 worker, 100 scopes | 6,000 | 6,000 | 6,000 | 6,000 | 6,000 |" in text


def test_what_comes_again_is_said() -> None:
    found = results(MANY, [100] * 3, [100] * 3)
    found.whole[Way.CHANNELS] = [replace(each, duplicates=30) for each in found.whole[Way.CHANNELS]]
    [case] = table(Kind.NOTED, "more than once", tables_of([found])).cases
    assert case.columns == {"here": 0, "bare streams": 0, "Channels": 30}


def test_what_a_scope_takes_is_said_where_there_are_many() -> None:
    tables = tables_of([results(case, [100] * 3, [100] * 3) for case in (FEW, MANY)])
    [case] = table(Kind.NOTED, "begin", tables).cases
    assert (case.name, list(case.columns.values())) == ("2 workers, 10,000 scopes", [5000, 4])


def test_only_what_has_a_target_is_compared_by_a_name_that_tells_beside_what() -> None:
    then = record(tables_of([results(FEW, [100] * 3, [100] * 3)]))
    now = record(tables_of([results(FEW, [50] * 3, [100] * 3)]))
    lines = report(then, now).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| 1 worker, 100 scopes, messages a second, beside bare streams",
        "| 1 worker, 100 scopes, messages a second, beside Channels",
    ]
    assert all("**WORSE**" in line for line in lines)


def test_a_record_of_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(tables_of([results(MANY, [100] * 3, [100] * 3)]))
    written.write(tmp_path / "redis.json")
    read = Record.read(tmp_path / "redis.json")
    assert [each.theirs for each in read.tables[:2]] == ["bare streams", "Channels"]
    assert texts_of(read) == texts_of(written)


def test_only_what_has_a_target_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import plots

    plots.draw(record(tables_of([results(FEW, [100] * 3, [100] * 3)])), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text("utf-8")
    assert "beside bare streams: times as many" in drawn
    assert "p99" not in drawn


# Measuring


@pytest.fixture
def bare() -> Iterator[object]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    stage = pytest.importorskip("redis_stage", exc_type=ImportError)
    with stage.staged(Case(2, 10), stage.Setting({Way.BARE: sys.executable})) as staged:
        yield staged


def test_every_message_is_counted_and_acknowledged(bare) -> None:  # type: ignore[no-untyped-def]
    whole = bare.carry(Way.BARE, 300)
    paced = bare.carry(Way.BARE, 30, 1000)
    assert (len(whole.latencies), len(paced.latencies)) == (300, 30)
    assert (whole.duplicates, paced.duplicates) == (0, 0)
    assert 0 < min(whole.latencies) <= max(whole.latencies) <= whole.seconds
    assert paced.seconds > 29 / 1000
