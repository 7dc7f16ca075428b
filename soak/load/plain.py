"""The plain part of the load: Debian's ``wrk`` requests three views in turn at full speed."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from records import Plain

CONNECTIONS = 4
SCRIPT = Path(__file__).with_name("plain.lua")


def require_wrk() -> None:
    """Raise SystemExit with a remedy if wrk is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")


async def ask_plainly(port: int, seconds: float) -> Plain:
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}", "--timeout", "60"),
        *("-s", str(SCRIPT), f"http://127.0.0.1:{port}/"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    said = output.decode(errors="replace")
    report = said.rpartition("soak:")[2]
    if process.returncode or report is said:
        return Plain(failed=1, may_be_cut=CONNECTIONS, said=said)
    counts = json.loads(report)
    failed = sum(counts[each] for each in ("connect", "read", "write", "timeout", "status", "body"))
    return Plain(counts["requests"], failed, CONNECTIONS, said if failed else "")
