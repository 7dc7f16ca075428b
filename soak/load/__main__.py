"""One stretch of load: ``python -m load PORT SECONDS MARKS_PREFIX LEDGER.json``."""

import asyncio
import sys
from pathlib import Path

from .drive import drive
from .kinds import Ask


def main(port: str, seconds: str, prefix: str, ledger: str) -> None:
    Ask.prefix = prefix
    asyncio.run(drive(int(port), float(seconds))).write(Path(ledger))


if __name__ == "__main__":
    main(*sys.argv[1:])
