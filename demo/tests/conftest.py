"""Make the demo's package importable, as ``run.py`` does."""

import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(DEMO), str(DEMO.parent / "tools")]
