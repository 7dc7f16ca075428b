"""The names of everything in Redis, and which partition a scope belongs to.

In Redis Cluster a key's place is decided by the part of its name in braces. All keys of one
partition carry the same, and all that concern the connection as a whole share another; no command
and no script of this package names keys of two.

The names of the channels on which readers are woken need no place: every node hears of a message.
"""

import re
import zlib
from dataclasses import dataclass

from ._errors import CannotStart

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check_name(what: str, name: str) -> str:
    """Give ``name``. Raises CannotStart if it cannot be a part of a key."""
    if not _NAME.fullmatch(name):
        raise CannotStart(
            f"The name of a {what} is made of 1 to 64 letters, digits, '_', '.' and '-', "
            f"not {name!r}."
        )
    return name


def partition_of(scope_id: bytes, partitions: int) -> int:
    """The number of the partition that a scope belongs to: the same in every process, for ever."""
    return zlib.crc32(scope_id) % partitions


@dataclass(frozen=True, slots=True)
class ConnectionKeys:
    """The keys of one connection that belong to no partition.

    Attributes:
        settings: a hash with the number of ``partitions``, which never changes, and the ``token``
            that the latest gateway got.
        gateway: the lease of the gateway; its value is the holder's name.
        outgoing: the channel on which the gateway hears of events, by the number of the partition.
    """

    connection: str
    settings: str
    gateway: str
    outgoing: str

    @classmethod
    def of(cls, connection: str) -> "ConnectionKeys":
        base = f"asgiref:{{{connection}}}"
        return cls(connection, f"{base}:settings", f"{base}:gateway", f"{base}:outgoing")

    def members(self, group: str) -> str:
        """A sorted set: the names of a group's workers, by the time until which each counts.

        Also the channel on which they hear that one has come, left or released something.
        """
        return f"asgiref:{{{self.connection}}}:members:{group}"

    @property
    def groups(self) -> str:
        """A set: the names of the groups that have ever had a worker."""
        return f"asgiref:{{{self.connection}}}:groups"


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition.

    Attributes:
        incoming, outgoing: the streams. The first is also the channel that wakes who reads it.
        gate: a hash: which gateway may write (``token``, ``owner``), and the ``sequence`` number of
            what it has written last; and how many ``leases`` groups of workers have had of the
            partition, which is where their tokens come from: a group that was forgotten and comes
            back goes on with higher ones.
        dead: the stream of dead letters.
    """

    number: int
    incoming: str
    outgoing: str
    gate: str
    dead: str

    @classmethod
    def of(cls, connection: str, number: int) -> "PartitionKeys":
        base = f"asgiref:{{{connection}/{number}}}"
        return cls(number, f"{base}:in", f"{base}:out", f"{base}:gate", f"{base}:dead")

    def group(self, group: str) -> "GroupKeys":
        base = self.incoming.removesuffix(":in")
        return GroupKeys(
            self, f"{base}:lease:{group}", f"{base}:state:{group}", f"{base}:failures:{group}"
        )


@dataclass(frozen=True, slots=True)
class GroupKeys:
    """The keys that one group of workers has for one partition.

    Attributes:
        lease: its value is the fencing token and the holder's name; it expires.
        state: a hash: ``doubt``, the last entry that an application may have seen without its being
            acknowledged; ``died``, the last that was pending when a holder died; ``holder``, the
            last one's name, and its ``end``: ``clean`` if it has left no such entry, ``left`` if it
            has, empty if it has not come; ``sent``, the number of the last event written under this
            lease; and counters.
        failures: a hash: the attempts that were made for an entry (`_attempts`), by its id.
    """

    partition: PartitionKeys
    lease: str
    state: str
    failures: str
