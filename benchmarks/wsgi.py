"""Compare `WsgiToAsgi` with asgiref 3.13.0, a2wsgi, the wrappers of servers, and no adapter.

``python wsgi.py OURS REFERENCE [--rounds N] [--idle] [--json FILE]``; see `comparison`. Prints a
table; exits with 1 if a target is missed. OURS also needs a2wsgi, uvicorn and hypercorn.
"""

import sys
from pathlib import Path

from comparison import Benchmark, Bound, Case, run, times


def bounds(name: str, raw: float, a2wsgi: int | None = None) -> tuple[Bound, ...]:
    limits = [times(raw, f"raw, {name}")]
    if a2wsgi is not None:
        limits.append(times(1 / a2wsgi, f"a2wsgi, {name}"))
    return tuple(limits)


CASES = (
    Case("hello", 300, 3, bounds("hello", 1.5, 3)),
    Case("POST 1 kB", 300, 3, bounds("POST 1 kB", 1.5, 3)),
    Case("50 at once", 300, 1, bounds("50 at once", 1.6)),
    Case("1 MB in 64 kB chunks", 20, 1, bounds("1 MB in 64 kB chunks", 2.2, 3)),
    Case("1000 chunks of 10 bytes", 3, 1, (times(1 / 20, "a2wsgi, 1000 chunks of 10 bytes"),)),
    Case("10 MB upload", 5, 1, bounds("10 MB upload", 1.8)),
)
PEERS = {
    f"{peer}, {case.name}": case.calls
    for peer in ("raw", "a2wsgi", "uvicorn", "hypercorn")
    for case in CASES
}

WSGI = Benchmark("one request", Path(__file__).with_name("wsgi_cases.py"), CASES, PEERS)

if __name__ == "__main__":
    sys.exit(run("wsgi", "`WsgiToAsgi` in process", WSGI))
