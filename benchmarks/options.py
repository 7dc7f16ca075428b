"""The options that all benchmarks share."""

import argparse
import re
from pathlib import Path

__all__ = ["add_json", "add_rounds", "make_parser", "make_plain_parser"]

VERSION_FILE = Path(__file__).resolve().parents[1] / "packages/asgiref/src/asgiref/__init__.py"


def make_parser(description: str, theirs: str = "asgiref 3.13.0") -> argparse.ArgumentParser:
    """Return a parser with the two Pythons and the version."""
    parser = make_plain_parser(description)
    parser.add_argument("ours", help="a Python with the components of this repository")
    parser.add_argument("theirs", help=f"a Python with {theirs}")
    return parser


def make_plain_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    found = re.search(r'^__version__ = "(.+)"$', VERSION_FILE.read_text("utf-8"), re.M)
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s of asgiref {found[1] if found else 'unknown'}",
        help="show the version of this checkout and exit",
    )
    return parser


def add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--rounds",
        type=int,
        default=default,
        metavar="ROUNDS",
        help="how many rounds measure each case (default: %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the record to this file (default: write none)",
    )
