"""The status as a table on a terminal, or as JSON; and removing a group, which changes it."""

import asyncio
import dataclasses
import json as json_module
import sys

from ._client import connected
from ._errors import CannotStart
from ._keys import ConnectionKeys, PartitionKeys, check_name
from ._status import PATIENCE, GroupStatus, PartitionStatus, Status, look

#: Seconds between two tables.
EVERY = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_HEAD = ("partition", "group", "holder", "lag", "pending", "redelivered", "failing", "dead", "out")


async def show_status(url: str, connection: str, *, json: bool, live: bool) -> None:
    """Print the status once, or with ``live`` again and again until cancelled.

    Raises:
        CannotStart: if Redis cannot be used or knows no such connection.
    """
    async with connected(url, PATIENCE) as link:
        while True:
            found = await look(link, connection)
            text = json_module.dumps(dataclasses.asdict(found)) if json else table(found)
            print(_HOME_AND_CLEAR * live + text, flush=True)
            if not live:
                return
            await asyncio.sleep(EVERY)


def table(status: Status) -> str:
    """The status as lines of text."""
    rows = [_HEAD, *(row for each in status.partitions for row in _rows(each)), _sums(status)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    memory = sum(each.memory for each in status.partitions) / 1e6
    workers = "; ".join(f"{group}: {len(names)}" for group, names in status.workers.items())
    return "\n".join(
        [
            f"connection {status.connection}, gateway {status.gateway or 'none'}, "
            f"workers {workers or 'none'}, streams {memory:.1f} MB",
            *lines,
        ]
    )


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if column in (1, 2) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _rows(partition: PartitionStatus) -> list[tuple[str, ...]]:
    groups = partition.groups or (GroupStatus("-", None, partition.incoming, 0, 0, 0),)
    return [
        (
            str(partition.number),
            each.group,
            each.holder or "-",
            *map(str, (each.lag, each.pending, each.redelivered, each.failing)),
            str(partition.dead),
            str(partition.undelivered),
        )
        for each in groups
    ]


def _sums(status: Status) -> tuple[str, ...]:
    groups = [each for partition in status.partitions for each in partition.groups]
    numbers = (
        sum(each.lag for each in groups),
        sum(each.pending for each in groups),
        sum(each.redelivered for each in groups),
        sum(each.failing for each in groups),
        sum(each.dead for each in status.partitions),
        sum(each.undelivered for each in status.partitions),
    )
    return ("all", "", "", *map(str, numbers))


async def remove_group(url: str, connection: str, group: str) -> None:
    """Forget a group. What it has not acknowledged is not kept for it any more.

    Raises:
        CannotStart: if it has workers, or Redis cannot be used or knows no such connection.
    """
    check_name("group", group)
    async with connected(url, PATIENCE) as link:
        found = await look(link, connection)
        if group not in found.workers:
            raise CannotStart(f"The connection {connection!r} has no group {group!r}.")
        if found.workers[group]:
            raise CannotStart(
                f"The group {group!r} has workers: {', '.join(found.workers[group])}."
            )
        keys = ConnectionKeys.of(connection)
        for number in range(len(found.partitions)):
            of = PartitionKeys.of(connection, number).group(group)
            stream = of.partition.incoming
            if await link.command("EXISTS", stream):
                await link.command("XGROUP", "DESTROY", stream, group, key=stream)
            await link.command("DEL", of.lease, of.state, of.failures)
        await link.command("SREM", keys.groups, group)
    print(f"The group {group} is forgotten.", file=sys.stderr)
