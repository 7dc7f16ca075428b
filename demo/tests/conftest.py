"""Make the demo's package importable, as ``run.py`` does, and run its check."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(DEMO), str(DEMO.parent / "tools")]


@pytest.fixture
def failures(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that runs steps of the check, and returns the complaints."""
    from app import check, options

    def run(*steps: Any, **more: Any) -> list[str]:
        lines: list[str] = []
        settings = options.Settings(tmp_path, tmp_path / "data", port=0, **more)
        code = check.run(settings, lines.append, steps)
        failed = [line[6:] for line in lines if line.startswith("FAIL")]
        assert code == bool(failed)
        return failed

    return run
