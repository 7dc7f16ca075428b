"""Who should hold how many partitions.

Every worker sees the same list of members and counts alone: no one of them decides for the others.
The first in the list, by name, take one more where the number cannot be divided. While lists differ
for a moment, one worker holds too many and another one too few; the lease decides who holds what,
so nothing worse can come of it.
"""

from collections.abc import Collection


def share_of(name: str, members: Collection[str], partitions: int) -> int:
    """How many of the partitions are this member's share.

    >>> [share_of(name, ["a", "b", "c"], 8) for name in "abc"]
    [3, 3, 2]
    """
    ordered = sorted(members)
    if name not in ordered:
        return 0
    each, rest = divmod(partitions, len(ordered))
    return each + (ordered.index(name) < rest)
