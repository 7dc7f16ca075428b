"""Compare the speed of the bridge with asgiref 3.13.0, the standard library and anyio.

``python bridge.py OURS REFERENCE [--rounds N] [--idle] [--json FILE]``; both Pythons also need
Django and anyio; see `comparison`. Prints a table; exits with 1 if a target is missed.
"""

import sys
from pathlib import Path

from comparison import Benchmark, Case, run, times

HOP = (
    times(1.05, "raw hop"),
    times(1, "asyncio.to_thread"),
    times(1, "anyio.to_thread"),
)

CASES = (
    Case("sensitive", 400, 2.3, HOP),
    Case("in a context", 400, 2.3, HOP),
    Case("parallel", 400, 2.3, HOP),
    Case("30 variables", 400, 3),
    Case("1000 at once", 2000, 5.5, (times(1, "1000 asyncio.to_thread"),)),
    Case("a context each", 200, 3.5),
    Case("async_to_sync below", 400, 2.2, (times(1, "run_coroutine_threadsafe"),)),
    Case("async_to_sync at top level", 200, 8),
    Case("top level and back", 150, 5),
    Case("Django ASGI, sync view", 60, 1.6),
    Case("Django WSGI, async view", 60, 3),
)
PEERS = {
    "raw hop": 400,
    "asyncio.to_thread": 400,
    "anyio.to_thread": 400,
    "1000 asyncio.to_thread": 2000,
    "run_coroutine_threadsafe": 400,
    "reused asyncio.Runner": 400,
}

BRIDGE = Benchmark("one call", Path(__file__).with_name("bridge_cases.py"), CASES, PEERS)

if __name__ == "__main__":
    sys.exit(run("bridge", "The bridge", BRIDGE))
