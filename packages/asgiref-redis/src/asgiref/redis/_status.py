"""What goes on in a connection: the numbers, as a function gives them.

They are read one partition after the other, while everything goes on: each line is true, their sum
nearly so.
"""

from dataclasses import dataclass
from typing import Any

from ._client import Call, Link, connected
from ._errors import CannotStart, RedisServerError, Unreachable
from ._keys import ConnectionKeys, PartitionKeys, check_name
from ._settings import name_of
from ._status_scripts import INSPECT

#: Seconds to wait for an answer.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group's side of one partition.

    Attributes:
        group: its name.
        holder: the worker that holds the partition; None if nobody does.
        lag: how many messages have not been read by the group (from 1000 on only roughly, before
            Redis 7).
        pending: how many have been read and not acknowledged.
        redelivered: how many have been redelivered since the beginning.
        failing: how many have failed and will be tried again, or are being tried again.
    """

    group: str
    holder: str | None
    lag: int
    pending: int
    redelivered: int
    failing: int


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition.

    Attributes:
        number: which one.
        incoming, outgoing: how many entries the streams hold; one that all have acknowledged may
            be among them.
        undelivered: how many events the gateway has not acknowledged.
        dead: how many dead letters there are.
        memory: bytes that the two streams take.
        groups: in the order of their names.
    """

    number: int
    incoming: int
    outgoing: int
    undelivered: int
    dead: int
    memory: int
    groups: tuple[GroupStatus, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A whole connection.

    Attributes:
        connection: its name.
        gateway: the gateway's name; None if there is none.
        workers: the names of the live workers, by group.
        partitions: in the order of their numbers.
    """

    connection: str
    gateway: str | None
    workers: dict[str, tuple[str, ...]]
    partitions: tuple[PartitionStatus, ...]


async def status(url: str, connection: str = "default") -> Status:
    """Look at a connection.

    Args:
        url: where Redis is; see `asgiref.redis`.
        connection: its name.

    Raises:
        CannotStart: if Redis cannot be used or knows no such connection.
        RedisServerError: if Redis goes away meanwhile.
    """
    async with connected(url, PATIENCE) as link:
        return await look(link, connection)


async def look(link: Link, connection: str) -> Status:
    """`status`, over a link that is there."""
    keys = ConnectionKeys.of(check_name("connection", connection))
    try:
        found = await link.command("HGET", keys.settings, "partitions")
        if found is None:
            raise CannotStart(f"There is no connection {connection!r}.")
        gateway = await link.command("GET", keys.gateway)
        names = sorted(name.decode() for name in await link.command("SMEMBERS", keys.groups))
        workers = {name: await _workers(link, keys, name) for name in names}
        answers = await link.run([_inspect(connection, n, names) for n in range(int(found))])
    except (Unreachable, RuntimeError) as error:
        if isinstance(error, RedisServerError):
            raise
        raise RedisServerError(f"The connection {connection!r} cannot be read: {error}") from None
    return Status(
        connection,
        None if gateway is None else gateway.decode(),
        workers,
        tuple(_partition(number, names, answer) for number, answer in enumerate(answers)),
    )


async def _workers(link: Link, keys: ConnectionKeys, group: str) -> tuple[str, ...]:
    now = await link.command("TIME")
    least = int(now[0]) * 1000
    found = await link.command("ZRANGEBYSCORE", keys.members(group), least, "+inf")
    return tuple(sorted(name_of(member.decode()) for member in found))


def _inspect(connection: str, number: int, groups: list[str]) -> Call:
    keys = PartitionKeys.of(connection, number)
    names = [keys.incoming, keys.outgoing, keys.dead]
    for group in groups:
        of = keys.group(group)
        names += [of.lease, of.state, of.failures]
    return Call(INSPECT, tuple(names), groups)


def _partition(number: int, groups: list[str], answer: Any) -> PartitionStatus:
    if isinstance(answer, Exception):
        raise answer
    incoming, outgoing, undelivered, dead, memory, *rest = answer
    found = [
        _group(name, rest[5 * n : 5 * n + 5]) for n, name in enumerate(groups) if rest[5 * n :]
    ]
    return PartitionStatus(number, incoming, outgoing, undelivered, dead, memory, tuple(found))


def _group(name: str, numbers: list[Any]) -> GroupStatus:
    holder, lag, pending, redelivered, failing = numbers
    worker = name_of(holder.decode().partition(":")[2]) if holder else None
    return GroupStatus(name, worker, lag, pending, int(redelivered), failing)
