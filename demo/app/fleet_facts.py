"""Constants that the demo, its gateway and its workers share; needs no asgiref-postgres."""

from __future__ import annotations

PARTITIONS = 32
"""Enough that each of ``MOST_WORKERS`` workers owns some."""

MOST_WORKERS = 8
"""The page has room for this many."""

TIMEOUT_SECONDS = 2
"""A frozen worker loses its partitions after this time; asgiref.postgres's default is 10 s."""

REPLACE_SECONDS = 4
"""The delay before a dead worker is replaced: long enough to see the others take over."""
