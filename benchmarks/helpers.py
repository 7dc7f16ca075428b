"""Compare the speed of testing, compatibility and typing with asgiref 3.13.0.

``python helpers.py OURS REFERENCE [--rounds N] [--idle] [--json FILE]``; see `comparison`. Prints
tables; exits with 1 if a target is missed.
"""

import sys
from pathlib import Path

from comparison import Benchmark, Case, run

CASES_FILE = Path(__file__).with_name("helpers_cases.py")

TESTING = Benchmark(
    "`asgiref.testing`",
    CASES_FILE,
    (
        Case("one message there and back, a communicator each", 500, 0.9),
        Case("one message there and back, one communicator", 2000, 0.9),
    ),
    {},
)
COMPATIBILITY = Benchmark(
    "`asgiref.compatibility`",
    CASES_FILE,
    (
        Case("a function is passed in", 5000, 1.5),
        Case("an instance is passed in", 5000, 0.9),
        # Ours checks that the class takes a scope, so that a wrong class fails at once.
        Case("an ASGI 2 class is passed in", 5000, 0.2),
        Case("a call through the adapter", 20_000, 0.8),
    ),
    {},
)
TYPING = Benchmark("`asgiref.typing`", CASES_FILE, (Case("import asgiref.typing", 100, 3),), {})

if __name__ == "__main__":
    sys.exit(run("helpers", "Testing, compatibility, typing", TESTING, COMPATIBILITY, TYPING))
