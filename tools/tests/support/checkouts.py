"""Copies of this checkout, as a fresh clone would be."""

import shutil
from pathlib import Path

__all__ = ["ROOT", "copy_checkout"]

ROOT = Path(__file__).resolve().parents[3]

# Everything that the commands make, and git's own folder.
MADE = (".git", ".tox", ".tox-bootstrap", ".demo", ".venv", "dist", "_build", "__pycache__")
CACHES = (".*_cache", ".hypothesis", ".coverage*", "*.egg-info")


def copy_checkout(target: Path) -> Path:
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*MADE, *CACHES))
    return target
