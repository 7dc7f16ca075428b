"""Copies of this checkout that resemble a fresh clone."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Everything that the commands create, and git's own folder.
MADE = (".git", ".tox", ".tox-bootstrap", ".demo", ".venv", "dist", "_build", "__pycache__")
CACHES = (".*_cache", ".hypothesis", ".coverage*", "*.egg-info")


def copy_checkout(target: Path) -> Path:
    return shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*MADE, *CACHES))
