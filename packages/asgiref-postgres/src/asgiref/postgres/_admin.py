"""Functions for operators: the status, a check of the setup, and dead letters."""

import contextlib
import json
from typing import Any
from uuid import uuid4

from ._codec import CannotStart, SessionLost, decode
from ._database import Database, Session, connected
from ._delivery import Read, Writes
from ._outbox import Batch
from ._schema import GROUP, LOCKS, SPAN

_STATUS = f"""
SELECT coalesce(CASE WHEN o.key IS NOT NULL THEN coalesce(r.name, 'an unknown process') END,
        CASE WHEN p.partition = 0 THEN '(no gateway)' ELSE '(no owner)' END) AS owner,
    p.partition = 0 AS is_gateway, count(*) AS partitions, sum(m.backlog) AS backlog
FROM partitions p LEFT JOIN readers r USING (reader) LEFT JOIN ({LOCKS}) o ON o.key = p.partition
CROSS JOIN LATERAL (SELECT count(*) AS backlog FROM messages m
    WHERE m.id > p.partition * {SPAN} AND m.id < (p.partition + 1) * {SPAN}) m
GROUP BY owner, is_gateway ORDER BY is_gateway DESC, owner
"""
_TOTALS = f"""
SELECT g.members, (SELECT count(*) FROM dead_letters), (
    SELECT sum(pg_total_relation_size(oid)) / 1048576.0 FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r')
FROM ({GROUP}) g
"""


async def status(database: Database) -> str:
    """Return a table that fits on a screen: the partitions and backlog of each owner, and totals.

    Raises:
        CannotStart: if the database cannot be used.
    """
    async with connected(database) as connection:
        rows = await connection.fetch(_STATUS)
        ((workers, dead, megabytes),) = await connection.fetch(_TOTALS)
    lines = [f"{'owner':<48} {'partitions':>10} {'backlog':>9}"]
    for owner, is_gateway, count, backlog in rows:
        name = owner.removeprefix("asgiref.postgres ")
        name = name if len(name) <= 48 else name[:45] + "..."
        lines.append(f"{name:<48} {'gateway' if is_gateway else count:>10} {backlog:>9}")
    lines.append(f"{workers} worker(s), {dead} dead letter(s), {megabytes:.1f} MB on disk")
    return "\n".join(lines)


async def check(database: Database) -> str:
    """Connect and run a transaction as a worker does, without messages; return a line of results.

    Raises:
        CannotStart: if the setup does not work.
    """
    session = Session(database, "asgiref.postgres check", uuid4(), lambda _: None)
    try:
        await session.open()
        await session.exchange(Writes(), Batch(), Read(), asleep=None)
        ((pid,),) = await session.fetch("SELECT pg_backend_pid() FROM partitions LIMIT 1")
        async with connected(database) as other:
            is_pooled = pid == await other.fetchval("SELECT pg_backend_pid()")
    except SessionLost as error:
        raise CannotStart(f"The database cannot be used: {error}.") from error
    finally:
        await session.close()
    if is_pooled:
        raise CannotStart(
            "The connection goes through a pool that changes the server's session between "
            "transactions. Advisory locks need one session: connect directly or use session "
            "pooling."
        )
    return f"ok: {session.partitions} partitions, messages of at most {session.max_size} bytes"


_DEAD = "dead_letters WHERE id = ANY ($1::bigint[])"
#: The statement for each action on dead letters. ``list`` shows the latest 100, and takes no ids.
_ACTIONS = {
    "list": "SELECT * FROM dead_letters ORDER BY died_at DESC LIMIT 100",
    "show": f"SELECT * FROM {_DEAD} ORDER BY id",
    "drop": f"DELETE FROM {_DEAD} RETURNING id",
    "requeue": f"""
        WITH gone AS (DELETE FROM {_DEAD} RETURNING *), sent AS (
            INSERT INTO messages (id, scope_id, message, redelivered)
            SELECT new_id((id / {SPAN})::integer), scope_id, message, true
            FROM (SELECT * FROM gone ORDER BY id) g
        ) SELECT id, wake(ARRAY[(id / {SPAN})::integer]) FROM gone
    """,
}
ACTIONS = tuple(_ACTIONS)


async def dead_letters(database: Database, action: str, ids: list[int]) -> list[Any]:
    """List, show, requeue or drop dead letters; return one row for each, with its id.

    `requeue` puts messages behind their scopes' other ones. Every action but `list` needs ids.
    """
    async with connected(database) as connection:
        return list(await connection.fetch(_ACTIONS[action], *([ids] if ids else [])))


def summary(dead: Any) -> str:
    """Return a dead letter as one line of the list."""
    reason = (dead["reason"].strip().splitlines() or [""])[-1][:60]
    scope_id, at = dead["scope_id"][:20], dead["died_at"]
    return f"{dead['id']:>18}  {at:%Y-%m-%d %H:%M:%S}  {scope_id:<20}  {reason}"


def details(dead: Any) -> str:
    """Return a dead letter in full."""
    fields = dict(dead)
    with contextlib.suppress(ValueError):
        fields["message"] = json.dumps(decode(dead["message"]), ensure_ascii=False, default=repr)
    return "".join(f"{name}: {str(value).strip()}\n" for name, value in fields.items())
