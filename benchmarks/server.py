"""Compare time, idle load and memory of `StatelessServer` with asgiref 3.13.0. Linux only.

``python server.py OURS REFERENCE [--rounds N] [--idle] [--json FILE]``; see `comparison`. Prints
tables; exits with 1 if a target is missed.
"""

import sys
from pathlib import Path

from comparison import Benchmark, Bound, Case, run, times

CASES_FILE = Path(__file__).with_name("server_cases.py")
MESSAGES = 20_000
FEW = "message, 1,000 scopes"

TIME = Benchmark(
    "StatelessServer",
    CASES_FILE,
    (
        Case(FEW, MESSAGES, 1),
        # A message must not cost more with more scopes: the measurement itself varies by 1.1.
        Case("message, 10,000 scopes", MESSAGES, 1, (times(1.1, FEW),)),
        Case("message, 50,000 scopes", 2 * MESSAGES, 1, (times(1.1, FEW),)),
        Case("eviction, 5,000 scopes", 100, 25),
        Case("new scope at the limit of 5,000", 100, 8),
    ),
    {FEW: MESSAGES},
)
IDLE = Benchmark(
    "share of a core",
    CASES_FILE,
    (Case("50,000 idle scopes", 10, 10, (Bound("limit", lambda _: 0.5),)),),
    {},
    "%",
)
MEMORY = Benchmark("memory", CASES_FILE, (Case("a scope", 10_000, 1),), {}, "bytes")

if __name__ == "__main__":
    sys.exit(run("server", "`StatelessServer`", TIME, IDLE, MEMORY))
