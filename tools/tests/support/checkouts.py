"""Copies of this checkout that resemble a fresh clone, and the URL of an unreachable index."""

import shutil
import socket
from pathlib import Path

__all__ = ["ROOT", "closed_address", "copy_checkout"]

ROOT = Path(__file__).resolve().parents[3]

# Everything that the commands create, and git's own folder.
MADE = (".git", ".tox", ".tox-bootstrap", ".demo", ".venv", "dist", "_build", "__pycache__")
CACHES = (".*_cache", ".hypothesis", ".coverage*", "*.egg-info")


def copy_checkout(target: Path) -> Path:
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*MADE, *CACHES))
    return target


def closed_address() -> str:
    """Return a URL on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}/simple"
