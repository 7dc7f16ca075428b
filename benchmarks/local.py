"""Compare the speed of `Local` with asgiref 3.13.0 and `threading.local`.

``python local.py OURS REFERENCE [--rounds N] [--idle] [--json FILE]``; see `comparison`. Prints a
table; exits with 1 if a target is missed.
"""

import sys
from pathlib import Path

from comparison import Benchmark, Case, run, times

COUNT = 20_000

CASES = (
    Case("read, set by async code", COUNT, 2.2),
    Case("read in sync code below", COUNT, 2.2),
    Case("read in async code below", COUNT, 2.2),
    Case("read, thread_critical, async", COUNT, 3),
    Case("read, thread_critical, sync", COUNT, 3),
    Case("read, set by plain sync code", COUNT, 2.2, (times(4, "threading.local"),)),
    Case("write in async code", COUNT, 1.8),
    Case("write in sync code", COUNT, 1.8),
    Case("write, thread_critical", COUNT, 2.2),
    # A write hardly costs more with more attributes: the tree of 30 is only one level deeper.
    Case("write beside 30 others", COUNT, 1.8, (times(1.5, "async write"),)),
    Case("write beside 30 others, sync", COUNT, 1.8, (times(1.5, "sync write"),)),
)
PEERS = {"threading.local": COUNT, "async write": COUNT, "sync write": COUNT}

LOCAL = Benchmark(
    "one attribute", Path(__file__).with_name("local_cases.py"), CASES, PEERS, "ns", 1000
)

if __name__ == "__main__":
    sys.exit(run("local", "`Local`", LOCAL))
