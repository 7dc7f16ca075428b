"""What the demo, its gateway and its workers agree on; known without asgiref-postgres, too."""

from __future__ import annotations

PARTITIONS = 32
"""Enough that each of ``MOST_WORKERS`` workers owns some."""

MOST_WORKERS = 8
"""As many as the page has room for."""

TIMEOUT_SECONDS = 2
"""A frozen worker loses its partitions after this; ten seconds are asgiref.postgres's default."""

REPLACE_SECONDS = 4
"""How long the place of a dead worker stays empty: long enough to see the others take over."""
