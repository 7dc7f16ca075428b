"""A run without any fault; each test changes the one thing that it is about."""

from __future__ import annotations

import pytest
from records import Caused, Ledger, Plain, Run, Sample, Served, Snapshot, Tally


def snapshot(seconds: float, calls: int) -> Snapshot:
    served = {"get": Served(calls, calls), "plain": Served(2 * calls, 2 * calls)}
    return Snapshot(
        seconds,
        threads=3,
        descriptors=10,
        tasks=6,
        loops=1,
        objects=70_000,
        blocks=290_000,
        heap_kb=14_000,
        rss_kb=64_000,
        types={"list": 7},
        served=served,
        heard=9,
        said=8,
    )


@pytest.fixture
def run() -> Run:
    mark = ("get-1", "django.request", "OnPurpose")
    ledger = Ledger(
        tallies={"get": Tally(100, 99, 1), "raise-in-talk": Tally(3, 3)},
        messages=Tally(12, 11, 1),
        plain=Plain(answered=198, may_be_cut=4),
        caused=[Caused(*mark)],
        orders_answered=["a", "b"],
        orders_cut=["c"],
        latencies=[(1000.5 + second, 0.010) for second in range(10)],
    )
    end = snapshot(90, 100)
    end.served["raise-in-talk"] = Served(3, 3)
    warm = snapshot(20, 50)
    warm.served["raise-in-talk"] = Served(1, 1)
    logged = {"mark": mark[0], "logger": mark[1], "exception": mark[2]}
    return Run(
        began=1000.0,
        seconds=60,
        ledger=ledger,
        started=snapshot(1, 0),
        warm=warm,
        pauses=[snapshot(30.0 + 10 * number, 60 + number) for number in range(5)],
        end=end,
        samples=[Sample(float(second), 5, 12, 65_000) for second in range(90)],
        loads=[(2.0, 12.0), (21.0, 80.0)],
        log=[{**logged, "level": "ERROR", "message": "failed", "traceback": "..."}],
        orders=["a", "b", "c"],
        stderr="",
        exit_status=-15,
        machine="a machine",
    )
