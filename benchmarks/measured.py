"""The protocol by which a benchmark asks a file of cases for measurements.

Each line of standard input names a case and a number of calls; the answer is the time per call in
microseconds. One process per environment lives for the whole benchmark, so that the rounds of the
environments can alternate.
"""

import sys
from collections.abc import Callable, Mapping

__all__ = ["answer"]


def answer(cases: Mapping[str, Callable[[int], float]]) -> None:
    """Answer each request; a case takes a number of calls and returns their time in seconds."""
    for line in sys.stdin:
        name, _, count = line.rstrip("\n").rpartition("\t")
        seconds = cases[name](int(count))
        print(seconds / int(count) * 1e6, flush=True)
