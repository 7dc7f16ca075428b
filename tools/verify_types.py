"""Require that pyright knows the type of every public name of the installed wheels.

Needs ``pyright``. A name counts as known if pyright needs no inference for its type, nor for any
type that it refers to: another type checker may infer a different type.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # `python -I` leaves it out

from command_line import make_parser

PACKAGE = "asgiref"


def symbols() -> list[dict[str, Any]]:
    """Return pyright's report on each exported name and each name that those refer to."""
    command = ["pyright", "--ignoreexternal", "--outputjson", "--verifytypes", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    except (ValueError, KeyError):
        sys.exit(f"pyright did not report:\n{done.stdout}\n{done.stderr}")
    return found


def module_of(name: str) -> str:
    """Return the public module of a name, also if the name is in one of its private modules."""
    parts = name.split(".")
    return PACKAGE if len(parts) < 3 else ".".join(parts[:2])


def complaints(symbol: dict[str, Any]) -> str:
    told = (each["message"].replace("\n", ";") for each in symbol["diagnostics"])
    return f"{symbol['name']}: {' '.join(told)}"


def main() -> None:
    make_parser("require that pyright knows the type of every public name").parse_args()
    found = symbols()
    total = Counter(module_of(each["name"]) for each in found)
    unknown = [each for each in found if not each["isTypeKnown"]]
    missing = Counter(module_of(each["name"]) for each in unknown)
    for module in sorted(total):
        known = total[module] - missing[module]
        print(f"{module:32} {known:4} of {total[module]:4} {known / total[module]:6.1%}")
    if unknown or not found:
        sys.exit("\n".join(map(complaints, unknown)) or "pyright found no names")


if __name__ == "__main__":
    main()
