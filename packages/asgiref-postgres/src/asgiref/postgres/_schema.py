"""The database schema: its migrations and rights, and the statement that every transaction runs.

Invariant: the session that holds the advisory lock (schema's oid, N) owns partition N. Partition 0
holds messages for the gateway; the other partitions hold messages for applications. The id of a
message is its partition times `SPAN` plus a number from a sequence.

A reader cannot just remember the highest id it has seen, because a transaction that took a lower id
may commit later. A row gets its transaction id before its own id. A reader gets its transaction id
after its snapshot, so once every transaction below that id has ended, no more rows can appear below
the ids that it read.

A scope id may have several rows in ``scopes``, and the one with the highest number counts. A unique
row would make each writer wait for the others: an open transaction in a view, for the gateway.
"""

import re
from hashlib import sha256

from ._codec import CannotStart

#: The oldest supported major version: the first one with ``idle_session_timeout``.
MINIMUM_SERVER = 14
#: The partition that holds events on their way to the gateway.
OUTGOING = 0
#: The second key of the advisory lock that every worker holds in shared mode: the workers' group.
MEMBERS = 2**31 - 1
#: The messages of partition N have ids between N * SPAN and (N + 1) * SPAN.
SPAN = 10**14

_MIGRATION_1 = """
CREATE TABLE settings (
    version integer NOT NULL, partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 4096),
    max_size integer NOT NULL
);
CREATE TABLE readers (
    reader uuid PRIMARY KEY, name text NOT NULL, taken bigint NOT NULL DEFAULT 0,
    batch bigint NOT NULL DEFAULT 0, asleep boolean NOT NULL DEFAULT false,
    opened_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE TABLE partitions (
    partition integer PRIMARY KEY, reader uuid, suspect bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE SEQUENCE message_number;
CREATE TABLE scopes (
    scope_id text, number bigint DEFAULT nextval('message_number'), scope bytea NOT NULL,
    PRIMARY KEY (scope_id, number)
);
CREATE TABLE messages (
    id bigint PRIMARY KEY, scope_id text NOT NULL, message bytea NOT NULL,
    attempts integer NOT NULL DEFAULT 0, redelivered boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1);
CREATE TABLE dead_letters (
    id bigint PRIMARY KEY, scope_id text NOT NULL, message bytea NOT NULL,
    attempts integer NOT NULL, reason text NOT NULL, died_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION partition_of(p_scope_id text) RETURNS integer LANGUAGE sql STABLE
SET search_path FROM CURRENT AS $$
    SELECT 1 + (get_byte(hash, 0) * 65536 + get_byte(hash, 1) * 256 + get_byte(hash, 2))
        % s.partitions
    FROM settings s, sha256(convert_to(p_scope_id, 'UTF8')) AS hash
$$;

CREATE FUNCTION new_id(p_partition integer) RETURNS bigint LANGUAGE sql AS $$
    SELECT p_partition::bigint * 100000000000000
        + CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('message_number') END
$$;

CREATE FUNCTION wake(p_partitions integer[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(pg_notify(current_schema(), p.partition::text))
    FROM partitions p JOIN readers r USING (reader)
    WHERE p.partition = ANY (p_partitions) AND r.asleep
$$;

CREATE FUNCTION send(p_scope_id text, p_message jsonb, p_scope jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_message bytea := convert_to(p_message::text, 'UTF8');
    v_scope bytea := convert_to(p_scope::text, 'UTF8');
    v_partition integer := partition_of(p_scope_id);
    v_max_size integer := (SELECT max_size FROM settings);
    v_id bigint;
BEGIN
    IF jsonb_typeof(p_message) IS DISTINCT FROM 'object' OR jsonb_typeof(p_scope) <> 'object'
        OR greatest(octet_length(v_message), octet_length(v_scope)) > v_max_size
        OR octet_length(p_scope_id) > 1000 THEN
        RAISE EXCEPTION 'The message and the scope for % must be JSON objects of at most % bytes, '
            'and the scope id at most 1000 bytes.', left(p_scope_id, 50), v_max_size;
    ELSIF v_scope <> coalesce((SELECT scope FROM scopes WHERE scope_id = p_scope_id
        ORDER BY number DESC LIMIT 1), '') THEN
        DELETE FROM scopes WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM scopes WHERE scope_id = p_scope_id FOR UPDATE SKIP LOCKED));
        INSERT INTO scopes (scope_id, scope) VALUES (p_scope_id, v_scope);
    END IF;
    INSERT INTO messages (id, scope_id, message)
    VALUES (new_id(v_partition), p_scope_id, v_message) RETURNING id INTO v_id;
    PERFORM wake(ARRAY[v_partition]);
    RETURN v_id;
END $$;

REVOKE ALL ON FUNCTION partition_of, new_id, wake, send FROM PUBLIC;
"""

MIGRATIONS: tuple[str, ...] = (_MIGRATION_1,)
VERSION = len(MIGRATIONS)

_EXCHANGE = f"""
WITH found AS MATERIALIZED (
    SELECT * FROM (
        SELECT m.*, r.size, sum(octet_length(m.message)) OVER (PARTITION BY r.place
            ORDER BY m.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM unnest($9::text[], $10::bigint[], $11::bigint[], $12::integer[], $13::bigint[])
            WITH ORDINALITY AS r (scope, after, upto, rows, size, place)
        CROSS JOIN LATERAL (
            SELECT m.id, m.scope_id, CASE WHEN r.scope IS NOT NULL
                    OR m.scope_id <> ALL ($15::text[]) THEN m.message END AS message,
                m.attempts, m.redelivered
            FROM messages m
            WHERE m.id > r.after AND m.id <= r.upto AND CASE WHEN r.scope IS NULL
                THEN m.id NOT IN (SELECT unnest($14::bigint[])) ELSE m.scope_id = r.scope END
            ORDER BY m.id LIMIT r.rows
        ) m
    ) m WHERE coalesce(m.before, 0) < m.size
), sent AS (
    INSERT INTO messages (id, scope_id, message, redelivered) SELECT new_id(p), s, m, r
    FROM unnest($4::integer[], $5::text[], $6::bytea[], $7::boolean[]) AS o (p, s, m, r)
), done AS (
    DELETE FROM messages WHERE id = ANY ($8::bigint[])
){{more}}, reader AS (
    UPDATE readers SET batch = coalesce($3::bigint, batch), asleep = coalesce($2, asleep),
        taken = greatest(taken, (SELECT max(id % {SPAN}) FROM found WHERE message IS NOT NULL))
    WHERE reader = $1 AND (EXISTS (SELECT FROM found) OR $2::boolean IS NOT NULL
        OR $3::bigint IS NOT NULL)
    RETURNING pg_current_xact_id()::text::bigint AS own
)
SELECT id, scope_id, message, attempts, redelivered,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint, (SELECT own FROM reader)
FROM found
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL,
    count(pg_notify(current_schema(), p.partition::text))
FROM partitions p JOIN readers r USING (reader) WHERE p.partition = ANY ($4) AND r.asleep
"""

#: One transaction of a worker or gateway. All parts see the table as it was before the transaction,
#: so the messages that it deletes must be among the ids that the read is told to skip. The last row
#: has only the number of notified partitions. The statement does not call ``wake``, because
#: PostgreSQL 15 would plan that function's query again in each transaction.
EXCHANGE = _EXCHANGE.format(more="")

#: The same for a transaction that also stores scopes, attempts or dead letters. Few transactions
#: do, and the server prepares each part of a statement even if that part has no rows.
EXCHANGE_MORE = _EXCHANGE.format(
    more=""", changed AS MATERIALIZED (
    SELECT i, d FROM unnest($16::text[], $17::bytea[]) AS n (i, d) WHERE d IS DISTINCT FROM
        (SELECT scope FROM scopes WHERE scope_id = i ORDER BY number DESC LIMIT 1)
), former AS (
    DELETE FROM scopes WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM changed CROSS JOIN LATERAL (
        SELECT ctid FROM scopes WHERE scope_id = i FOR UPDATE SKIP LOCKED) s))
), scope AS (
    INSERT INTO scopes (scope_id, scope) SELECT i, d FROM changed
), tried AS (
    UPDATE messages m SET attempts = t.n, redelivered = true
    FROM unnest($18::bigint[], $19::integer[]) AS t (i, n) WHERE m.id = t.i
), gone AS (
    DELETE FROM messages m USING unnest($20::bigint[], $21::integer[], $22::text[]) AS d (i, n, r)
    WHERE m.id = d.i RETURNING m.id, m.scope_id, m.message, d.n, d.r
), dead AS (
    INSERT INTO dead_letters (id, scope_id, message, attempts, reason) SELECT * FROM gone
)"""
)

#: Run this only while holding the advisory locks of the partitions: then no other session can
#: change their rows, and the former owner's last transaction has ended.
ACQUIRE = """
WITH own AS (
    INSERT INTO readers (reader, name) VALUES ($1, $2)
    ON CONFLICT (reader) DO UPDATE SET opened_at = now(), asleep = false
), unused AS (
    DELETE FROM readers r WHERE r.opened_at < now() - interval '7 days' AND r.reader <> $1
        AND NOT EXISTS (SELECT FROM partitions p WHERE p.reader = r.reader)
), former AS (
    SELECT p.partition, p.reader, r.taken, r.name
    FROM partitions p LEFT JOIN readers r USING (reader)
), replaced AS (
    -- A gateway may return and ask for its last batch, so keep its row for another week. If the row
    -- is locked, the gateway has already returned.
    UPDATE readers SET opened_at = now() WHERE reader IN (
        SELECT r.reader FROM partitions p JOIN readers r USING (reader)
        WHERE p.partition = ANY ($3::integer[]) AND r.reader <> $1 FOR UPDATE OF r SKIP LOCKED)
)
UPDATE partitions p SET reader = $1,
    suspect = greatest(p.suspect, CASE WHEN f.reader <> $1 THEN f.taken END)
FROM former f WHERE f.partition = p.partition AND p.partition = ANY ($3::integer[])
RETURNING p.partition, p.suspect,
    greatest(p.suspect, CASE WHEN f.reader = $1 THEN f.taken END),
    CASE WHEN f.reader <> $1 THEN f.name END
"""

LAST_BATCH = """
INSERT INTO readers (reader, name) VALUES ($1, $2)
ON CONFLICT (reader) DO UPDATE SET opened_at = now() RETURNING batch
"""

RELEASE = """
UPDATE partitions p SET reader = NULL, suspect = r.s
FROM unnest($1::integer[], $2::bigint[]) AS r (p, s) WHERE p.partition = r.p
"""

#: The advisory locks of a schema. A lock with two 32-bit keys has objsubid 2.
LOCKS = """
SELECT objid::bigint AS key, pid FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted
    AND classid = current_schema()::regnamespace::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

#: The size of the group, this session's rank in it, and the partitions that have an owner.
GROUP = f"""
SELECT count(*) FILTER (WHERE key = {MEMBERS}) AS members,
    count(*) FILTER (WHERE key = {MEMBERS} AND pid < pg_backend_pid()) AS rank,
    array_agg(key) FILTER (WHERE key < {MEMBERS}) AS owned
FROM ({LOCKS}) AS held
"""

#: Ends only sessions of the same role: a role cannot see or terminate other roles' statements.
END_STUCK = f"""
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
WHERE a.pid IN (SELECT pid FROM ({LOCKS}) AS held) AND a.pid <> pg_backend_pid()
    AND a.usename = current_user AND a.state = 'active'
    AND a.query_start < clock_timestamp() - $1 * interval '1 second'
"""


def partition_of(scope_id: str, partitions: int) -> int:
    """Return the partition of a scope, like the SQL function of the same name."""
    return 1 + int.from_bytes(sha256(scope_id.encode()).digest()[:3]) % partitions


def checked_schema(name: str) -> str:
    """Return ``name`` if it is a valid schema name.

    Raises:
        CannotStart: if it is not.
    """
    if re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) is None or name.startswith("pg_"):
        raise CannotStart(
            f"The schema name {name!r} cannot be used: it must consist of at most 63 lower-case "
            "letters, digits and underscores, and must not start with 'pg_' or a digit."
        )
    return name


def scripts(schema: str, installed: int, partitions: int, max_size: int) -> list[str]:
    """Return the scripts that bring ``schema`` from version ``installed`` to `VERSION`.

    Raises:
        CannotStart: if the installed version is newer.
    """
    if installed > VERSION:
        raise CannotStart(
            f"The schema {schema!r} has version {installed}, which is newer than this release of "
            f"asgiref-postgres supports ({VERSION}). Install a newer release."
        )
    steps = [script.replace("{schema}", schema) for script in MIGRATIONS[installed:]]
    if installed:
        return [*steps, f"UPDATE settings SET version = {VERSION}"]
    fill = f"""
        INSERT INTO settings VALUES ({VERSION}, {partitions:d}, {max_size:d});
        INSERT INTO partitions SELECT generate_series(0, {partitions:d});
    """
    return [*steps, fill]


def grants(schema: str, role: str, *, sender: bool) -> str:
    """Return the statements that grant ``role`` the rights of a sender, or a worker or gateway."""
    name = '"' + role.replace('"', '""') + '"'
    usage = f'GRANT USAGE ON SCHEMA "{schema}" TO {name};'
    if sender:
        return f'{usage} GRANT EXECUTE ON FUNCTION "{schema}".send TO {name};'
    # The search path starts with the schema, which may also hold other objects, if it is `public`.
    return f"""
        {usage}
        GRANT SELECT ON settings TO {name};
        GRANT SELECT, INSERT, UPDATE, DELETE ON scopes, readers, partitions, messages, dead_letters
            TO {name};
        GRANT USAGE ON SEQUENCE message_number TO {name};
        GRANT EXECUTE ON FUNCTION partition_of, new_id, wake, send TO {name};
    """
