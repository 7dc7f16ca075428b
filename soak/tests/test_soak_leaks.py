"""Complete runs that leak one thing per request of one kind, which the verdict must find."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from measurement import Plan, measure
from verdict import judge

LINES = {
    "threads": "threads at the end",
    "descriptors": "descriptors at the end",
    "children": "children at the end",
    "tasks": "tasks at the end",
    "loops": "loops at the end",
    "memory": "kB of malloc's more than after warm-up",
    "objects": "objects more than after warm-up",
}
#: The others would hide this leak, so it has a run of its own.
GROUPS = [("objects",), tuple(leak for leak in LINES if leak != "objects")]


@pytest.mark.leaks
@pytest.mark.parametrize("leaks", GROUPS, ids="+".join)
def test_what_is_leaked_on_purpose_is_found(leaks: tuple[str, ...], tmp_path: Path) -> None:
    # Leaks do not go away by waiting, so the run need not settle.
    plan = Plan(seconds=12, settling=(2, 2), stretches=2, leaks=leaks)
    lines = judge(asyncio.run(measure(plan, tmp_path)))
    failed = [line.name for line in lines if not line.holds]
    assert {LINES[leak] for leak in leaks} <= set(failed)
    assert "requests that failed" not in failed
