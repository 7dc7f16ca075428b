"""How `postgres_echo` counts echoes and evaluates its measurements."""

import asyncio

import pages
import pytest
from postgres_cases import Echoes, Trip
from postgres_echo import ROLES, Samples, Way, tables_of
from record import Measured, Record, Table


def results(ours: float, bare: float, p50: float = 1.0, p99: float = 2.0) -> dict[str, Samples]:
    figures = {Way.OURS: ours, Way.BARE: bare, "p50": p50, "p99": p99}
    figures |= {f"{way}: {role}": 50.0 for way in (Way.OURS, Way.BARE) for role in ROLES}
    return {"100 scopes": Samples(list, {name: [value] * 3 for name, value in figures.items()})}


def case_of(tables: list[Table], title: str, number: int = 0) -> Measured:
    [table] = [each for each in tables if title in each.title]
    return table.cases[number]


@pytest.mark.parametrize(("ours", "met"), [(6_001, True), (5_999, False)])
def test_ours_must_reach_a_share_of_the_bare_loop(ours: float, met: bool) -> None:
    assert case_of(tables_of(results(ours, 10_000)), "beside bare loop").met is met


@pytest.mark.parametrize(("ours", "met"), [(7_000, True), (6_999, False)])
def test_a_rate_below_the_limit_is_a_miss(ours: float, met: bool) -> None:
    assert case_of(tables_of(results(ours, 1)), "at full speed").met is met


@pytest.mark.parametrize(("p50", "p99", "met"), [(6, 25, (True, True)), (7, 26, (False, False))])
def test_a_latency_above_the_limit_is_a_miss(
    p50: float, p99: float, met: tuple[bool, bool]
) -> None:
    tables = tables_of(results(1, 1, p50, p99))
    assert tuple(case_of(tables, "latency", number).met for number in (0, 1)) == met


def test_without_a_redis_server_channels_is_left_out() -> None:
    assert not any("Channels" in table.title for table in tables_of(results(1, 1)))


def test_the_capacity_is_calculated_from_the_processor_time() -> None:
    record = Record("postgres_echo", "Echoes", tables_of(results(1, 1)), 3, "", 0.0)
    text = pages.capacity({"postgres_echo": record})
    # At 50 µs per echo, one core carries 20,000 and half of 32 cores carries 16 times as many.
    assert "| one gateway, on one core | 50 µs | 20,000 echoes a second |" in text
    assert "| 50 µs | 320,000 echoes a second |" in text


def test_a_trip_ends_with_the_last_echo_and_counts_each_once() -> None:
    async def run() -> tuple[Trip, list[int]]:
        sent: list[int] = []
        echoes = Echoes()

        async def put(number: int) -> None:
            sent.append(number)
            asyncio.get_running_loop().call_soon(echoes.receive, number)
            asyncio.get_running_loop().call_soon(echoes.receive, number)

        return await echoes.run(put, 4_500), sent  # more than may be in flight at once

    trip, sent = asyncio.run(run())
    assert sent == list(range(4_500))
    assert 0 <= trip["p50"] <= trip["p99"] <= 1000 * trip["seconds"]
