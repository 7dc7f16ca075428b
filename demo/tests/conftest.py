"""Make the demo's package importable, as ``run.py`` does, and run its check."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(DEMO), str(DEMO.parent / "tools")]

RunCheck = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run_check(tmp_path: Path) -> RunCheck:
    """Return a function that runs steps; it returns the exit code and the failed lines."""
    from app import check, demo

    def run(*steps: Any, make_game: Any = demo.GuessingGame, **more: Any) -> tuple[int, list[str]]:
        lines: list[str] = []
        settings = demo.Settings(tmp_path / "data", 0, tmp_path / "reference", **more)
        code = check.run(settings, lines.append, steps, make_game)
        return code, [line for line in lines if line.startswith("FAIL")]

    return run
