"""Functions for operators: the status, a check of the setup, and dead letters."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from ._codec import CannotStart, decode
from ._database import LOCKS, Database, connected, settings_of
from ._schema import MEMBERS


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition; number 0 holds events on their way to the gateway."""

    partition: int
    owner: str | None
    backlog: int
    oldest: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """The result of `status`.

    Attributes:
        partitions: the partitions, in order.
        workers: the number of live workers.
        dead_letters: the number of dead letters.
        sizes: the size of each table with its indexes, in bytes.
    """

    partitions: list[PartitionStatus]
    workers: int
    dead_letters: int
    sizes: dict[str, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed too often, or that could not be read."""

    id: int
    partition: int
    scope_id: str
    message: bytes
    attempts: int
    reason: str
    died_at: Any


_STATUS = """
SELECT p.partition, r.name, o.pid IS NOT NULL AS is_owned, m.backlog, m.oldest
FROM "{schema}".partitions p
LEFT JOIN "{schema}".readers r USING (reader)
LEFT JOIN ({locks}) o ON o.key = p.partition
LEFT JOIN (SELECT partition, count(*) AS backlog, min(id) AS oldest
    FROM "{schema}".messages GROUP BY partition) m ON m.partition = p.partition
ORDER BY p.partition
"""


async def status(database: Database) -> Status:
    """Return the owner and the backlog of each partition, with totals.

    Raises:
        CannotStart: if the database cannot be used.
    """
    schema = database.schema
    async with connected(database) as connection:
        locks = await connection.fetch(LOCKS, f'"{schema}"')
        rows = await connection.fetch(_STATUS.format(schema=schema, locks=LOCKS), f'"{schema}"')
        dead = await connection.fetchval(f'SELECT count(*) FROM "{schema}".dead_letters')
        sizes = await connection.fetch(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relnamespace = $1::regnamespace AND relkind = 'r' ORDER BY relname",
            f'"{schema}"',
        )
    partitions = [
        PartitionStatus(
            row["partition"],
            (row["name"] or "an unknown process") if row["is_owned"] else None,
            row["backlog"] or 0,
            row["oldest"],
        )
        for row in rows
    ]
    workers = sum(row["key"] == MEMBERS for row in locks)
    return Status(partitions, workers, dead, {row[0]: row[1] for row in sizes})


def as_json(status: Status) -> str:
    return json.dumps(asdict(status), indent=2)


def as_table(status: Status) -> str:
    """Return the status as a table that fits a screen, with one line for each owner."""
    owners: dict[str, list[PartitionStatus]] = {}
    for each in status.partitions[1:]:
        owners.setdefault(each.owner or "(no owner)", []).append(each)
    gateway = status.partitions[0]
    lines = [f"{'owner':<48} {'partitions':>10} {'backlog':>9}"]
    name = gateway.owner or "(no gateway)"
    lines.append(f"{_shortened(name):<48} {'gateway':>10} {gateway.backlog:>9}")
    for owner, owned in sorted(owners.items()):
        backlog = sum(each.backlog for each in owned)
        lines.append(f"{_shortened(owner):<48} {len(owned):>10} {backlog:>9}")
    sizes = sum(status.sizes.values()) / (1 << 20)
    lines.append(
        f"{status.workers} worker(s), {status.dead_letters} dead letter(s), {sizes:.1f} MB on disk"
    )
    return "\n".join(lines)


def _shortened(name: str) -> str:
    name = name.removeprefix("asgiref.postgres ")
    return name if len(name) <= 48 else name[:45] + "..."


_LACKING = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE pronamespace = $1::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE')
UNION ALL
SELECT c.oid::regclass::text FROM pg_class c CROSS JOIN
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_to
WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND NOT has_table_privilege(c.oid, right_to)
    AND (relname <> 'settings' OR right_to = 'SELECT')
ORDER BY 1
"""


async def check(database: Database) -> list[str]:
    """Check all that a worker or gateway needs; return one line for each check.

    Raises:
        CannotStart: if a check fails, for the first one that does.
    """
    schema = database.schema
    async with connected(database) as connection:
        server = connection.get_server_version()
        partitions, max_size = await settings_of(connection, schema)
        lacking = await connection.fetch(_LACKING, f'"{schema}"')
        if lacking:
            names = ", ".join(dict.fromkeys(row[0] for row in lacking))
            raise CannotStart(
                f"The role has no rights for {names}. Grant them with "
                f"`python -m asgiref.postgres migrate --schema {schema} --grant ROLE`."
            )
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            raise CannotStart(
                "The server is a standby. Name the primary, or every server with "
                "target_session_attrs=read-write."
            )
        if await _is_transaction_pooled(connection, database):
            raise CannotStart(
                "The connection goes through a pool that changes the server's session between "
                "transactions. Advisory locks need one session: connect directly or pool sessions."
            )
    return [
        f"PostgreSQL {server.major}.{server.minor}",
        f"schema {schema!r}: {partitions} partitions, messages of at most {max_size} bytes",
        "the role has the rights of a worker or gateway",
    ]


async def _is_transaction_pooled(connection: Any, database: Database) -> bool:
    """Whether a second connection gets the server session of an idle one."""
    own = await connection.fetchval("SELECT pg_backend_pid()")
    async with connected(database) as other, other.transaction():
        return bool(await other.fetchval("SELECT pg_backend_pid()") == own)


async def dead_letters(
    database: Database, ids: list[int] | None = None, *, limit: int = 100
) -> list[DeadLetter]:
    """Return the dead letters with ``ids``, or at most ``limit`` of all; the latest first."""
    async with connected(database) as connection:
        rows = await connection.fetch(
            "SELECT id, partition, scope_id, message, attempts, reason, died_at FROM"
            f' "{database.schema}".dead_letters'
            " WHERE $1::bigint[] IS NULL OR id = ANY ($1) ORDER BY died_at DESC, id DESC LIMIT $2",
            ids,
            limit if ids is None else len(ids),
        )
    return [DeadLetter(*row) for row in rows]


async def requeue(database: Database, ids: list[int]) -> int:
    """Requeue dead letters behind their scopes' other messages; return how many were found."""
    return await _remove(
        database,
        ids,
        'INSERT INTO "{schema}".messages (partition, scope_id, message, redelivered)'
        " SELECT partition, scope_id, message, true FROM gone ORDER BY id"
        " RETURNING partition",
    )


async def drop(database: Database, ids: list[int]) -> int:
    """Delete dead letters; return how many were found."""
    return await _remove(database, ids, "SELECT partition FROM gone")


async def _remove(database: Database, ids: list[int], query: str) -> int:
    schema = database.schema
    async with connected(database) as connection, connection.transaction():
        rows = await connection.fetch(
            f'WITH gone AS (DELETE FROM "{schema}".dead_letters WHERE id = ANY ($1)'
            f" RETURNING *) {query.format(schema=schema)}",
            ids,
        )
        await connection.execute(f'SELECT "{schema}".wake($1)', [row["partition"] for row in rows])
    return len(rows)


def readable(message: bytes) -> str:
    """Return a message as JSON, or its bytes if it cannot be read."""
    try:
        return json.dumps(decode(message), ensure_ascii=False, default=repr)
    except ValueError:
        return repr(message)
