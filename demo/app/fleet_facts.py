"""What the demo, its gateway and its workers agree on; known without asgiref-redis, too."""

from __future__ import annotations

CONNECTION = "asgiref-demo"
"""The connection's name in Redis."""

GROUP = "bots"
"""The name that the workers share."""

PARTITIONS = 8
"""Few enough to be shown on a page, and as many as there may be workers."""

LEASE_SECONDS = 2
"""Short, so that a take-over can be watched; ten seconds are the default of asgiref.redis."""

REPLACE_SECONDS = 6
"""How long the place of a dead worker stays empty: longer than the lease, to show the others."""
