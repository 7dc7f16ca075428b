"""How long to wait before the next attempt to reach Redis.

The time doubles up to a limit, and each wait is a random part of it, at least half: otherwise all
workers of a cluster would come back in the same instant, again and again.
"""

import random


class Backoff:
    """The times, in seconds, to wait between attempts that fail one after the other."""

    def __init__(self, first: float = 0.05, most: float = 3.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def next(self) -> float:
        """The time to wait after one more failure."""
        seconds, self._next = self._next, min(2 * self._next, self._most)
        return seconds * random.uniform(0.5, 1)

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._next = self._first
