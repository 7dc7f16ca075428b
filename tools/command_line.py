"""The ``--version`` option, shared by the command lines of this repository's own programs."""

import argparse
import re
from pathlib import Path

__all__ = ["checkout_version", "make_parser"]

VERSION_FILE = Path(__file__).resolve().parents[1] / "packages/asgiref/src/asgiref/__init__.py"


def checkout_version() -> str:
    """Return the version of this checkout: the version of the meta-package."""
    found = re.search(r'^__version__ = "(.+)"$', VERSION_FILE.read_text("utf-8"), re.M)
    return found[1] if found else "unknown"


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s of asgiref {checkout_version()}",
        help="show the version of this checkout and exit",
    )
    return parser
