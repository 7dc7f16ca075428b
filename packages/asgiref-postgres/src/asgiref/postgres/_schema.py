"""The database schema: its migrations, and the SQL functions that processes call.

Invariant: the session that holds the advisory lock (schema's oid, N) owns partition N. Partition 0
holds messages for the gateway; the other partitions hold messages for applications.

A reader cannot just remember the highest id it has seen, because a transaction that took a lower id
may commit later. A row gets its transaction id before its own id. So once every transaction in
flight at a read has ended, no more rows can appear below the ids of that read. A snapshot does not
show all of those transactions, because its xmax depends on the last one that ended. The transaction
id that the reader itself gets after the read is above all of them.
"""

import re

from ._codec import CannotStart

#: The oldest supported major version: the first one with ``idle_session_timeout``.
MINIMUM_SERVER = 14
#: The second key of the advisory lock that all workers share; its holders are the group.
MEMBERS = 2**31 - 1

_MIGRATION_1 = """
CREATE TABLE "SCHEMA".settings (
    version integer NOT NULL, partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 4096),
    max_size integer NOT NULL
);
CREATE TABLE "SCHEMA".scopes (scope_id text PRIMARY KEY, scope bytea NOT NULL);
CREATE TABLE "SCHEMA".readers (
    reader uuid PRIMARY KEY, name text NOT NULL, taken bigint NOT NULL DEFAULT 0,
    asleep boolean NOT NULL DEFAULT false, opened_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE TABLE "SCHEMA".partitions (
    partition integer PRIMARY KEY, reader uuid, suspect bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE "SCHEMA".producers (
    producer uuid PRIMARY KEY, batch bigint NOT NULL, used_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE SEQUENCE "SCHEMA".message_id;
CREATE TABLE "SCHEMA".messages (
    partition integer NOT NULL CHECK (partition >= 0),
    id bigint NOT NULL DEFAULT CASE WHEN pg_current_xact_id() IS NOT NULL
        THEN nextval('"SCHEMA".message_id') END,
    scope_id text NOT NULL, message bytea NOT NULL, attempts integer NOT NULL DEFAULT 0,
    redelivered boolean NOT NULL DEFAULT false,
    PRIMARY KEY (partition, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1);
CREATE TABLE "SCHEMA".dead_letters (
    id bigint PRIMARY KEY, partition integer NOT NULL, scope_id text NOT NULL,
    message bytea NOT NULL, attempts integer NOT NULL, reason text NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION "SCHEMA".partition_of(p_scope_id text) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT 1 + (get_byte(hash, 0) * 65536 + get_byte(hash, 1) * 256 + get_byte(hash, 2))
        % s.partitions
    FROM "SCHEMA".settings s, sha256(convert_to(p_scope_id, 'UTF8')) AS hash
$$;

CREATE FUNCTION "SCHEMA".wake(p_partitions integer[]) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('SCHEMA', p.partition::text)
    FROM "SCHEMA".partitions p JOIN "SCHEMA".readers r USING (reader)
    WHERE p.partition = ANY (p_partitions) AND r.asleep
$$;

CREATE FUNCTION "SCHEMA".send(p_scope_id text, p_message jsonb, p_scope jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_message bytea := convert_to(p_message::text, 'UTF8');
    v_partition integer := "SCHEMA".partition_of(p_scope_id);
    v_id bigint;
BEGIN
    IF jsonb_typeof(p_message) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'The message for scope % must be a JSON object.', p_scope_id;
    ELSIF octet_length(v_message) > (SELECT max_size FROM "SCHEMA".settings) THEN
        RAISE EXCEPTION 'The message for scope % has % bytes; the maximum is %.', p_scope_id,
            octet_length(v_message), (SELECT max_size FROM "SCHEMA".settings);
    END IF;
    IF octet_length(p_scope_id) > 1000 OR jsonb_typeof(p_scope) <> 'object'
        OR octet_length(p_scope::text) > (SELECT max_size FROM "SCHEMA".settings) THEN
        RAISE EXCEPTION 'The scope id % or its scope is too long, or the scope not a JSON object.',
            left(p_scope_id, 50);
    ELSIF p_scope IS NOT NULL THEN
        INSERT INTO "SCHEMA".scopes AS s VALUES (p_scope_id, convert_to(p_scope::text, 'UTF8'))
        ON CONFLICT (scope_id) DO UPDATE SET scope = excluded.scope
        WHERE s.scope <> excluded.scope;
    END IF;
    INSERT INTO "SCHEMA".messages (partition, scope_id, message)
    VALUES (v_partition, p_scope_id, v_message) RETURNING id INTO v_id;
    PERFORM "SCHEMA".wake(ARRAY[v_partition]);
    RETURN v_id;
END $$;

CREATE FUNCTION "SCHEMA".acquire(
    p_reader uuid, p_name text, p_taken bigint, p_partitions integer[])
RETURNS TABLE (partition integer, suspect bigint, seen bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_partition integer;
    v_last uuid;
BEGIN
    INSERT INTO "SCHEMA".readers AS r VALUES (p_reader, p_name, p_taken)
    ON CONFLICT (reader) DO UPDATE SET opened_at = now(), asleep = false;
    DELETE FROM "SCHEMA".readers r WHERE r.opened_at < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM "SCHEMA".partitions p WHERE p.reader = r.reader);
    DELETE FROM "SCHEMA".producers WHERE used_at < now() - interval '7 days';
    FOREACH v_partition IN ARRAY p_partitions LOOP
        IF pg_try_advisory_lock('"SCHEMA"'::regnamespace::oid::integer, v_partition) THEN
            SELECT p.reader INTO v_last FROM "SCHEMA".partitions p WHERE p.partition = v_partition;
            RETURN QUERY UPDATE "SCHEMA".partitions p SET reader = p_reader,
                suspect = greatest(p.suspect, (SELECT r.taken FROM "SCHEMA".readers r
                    WHERE r.reader = v_last AND v_last <> p_reader))
                WHERE p.partition = v_partition RETURNING p.partition, p.suspect,
                    greatest(p.suspect, CASE WHEN v_last = p_reader THEN p_taken END);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION "SCHEMA".exchange(
    p_reader uuid, p_taken bigint, p_asleep boolean,
    p_done_partition integer[], p_done bigint[],
    p_tried_partition integer[], p_tried bigint[], p_tried_attempts integer[],
    p_dead_partition integer[], p_dead bigint[], p_dead_attempts integer[], p_dead_reason text[],
    p_producer uuid, p_batch bigint, p_scope_id text[], p_scope bytea[],
    p_to_gateway boolean, p_out_scope_id text[], p_out_message bytea[], p_out_redelivered boolean[],
    p_partition integer[], p_mark bigint[], p_cursor bigint[], p_limit integer[], p_bytes bigint,
    p_known bigint[], p_behind text[],
    p_late_partition integer[], p_late_scope_id text[], p_late_first bigint[],
    p_late_last bigint[], p_late_limit integer[], p_late_bytes bigint[], p_late_known bigint[]
) RETURNS TABLE (
    partition integer, id bigint, scope_id text, message bytea, attempts integer,
    redelivered boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_row record;
    v_taken bigint := 0;
    v_xmin bigint;
    v_is_new boolean := true;
    v_partitions integer[];
BEGIN
    IF p_producer IS NOT NULL THEN
        INSERT INTO "SCHEMA".producers AS p VALUES (p_producer, p_batch)
        ON CONFLICT (producer) DO UPDATE SET batch = excluded.batch, used_at = now()
        WHERE p.batch < excluded.batch;
        v_is_new := FOUND;
    END IF;
    IF cardinality(p_scope_id) > 0 THEN
        INSERT INTO "SCHEMA".scopes AS s
        SELECT * FROM unnest(p_scope_id, p_scope) AS n (i, d) ORDER BY n.i
        ON CONFLICT (scope_id) DO UPDATE SET scope = excluded.scope
        WHERE s.scope <> excluded.scope;
    END IF;
    IF cardinality(p_out_scope_id) > 0 AND v_is_new THEN
        WITH written AS (
            INSERT INTO "SCHEMA".messages (partition, scope_id, message, redelivered)
            SELECT p.p, o.s, o.m, o.r
            FROM unnest(p_out_scope_id, p_out_message, p_out_redelivered)
                WITH ORDINALITY AS o (s, m, r, place)
            JOIN (
                SELECT d.s, CASE WHEN p_to_gateway THEN 0 ELSE "SCHEMA".partition_of(d.s) END AS p
                FROM (SELECT DISTINCT s FROM unnest(p_out_scope_id) AS s) d
            ) p USING (s)
            ORDER BY place
            RETURNING messages.partition
        )
        SELECT array_agg(DISTINCT w.partition) INTO v_partitions FROM written w;
        PERFORM "SCHEMA".wake(v_partitions);
    END IF;
    IF cardinality(p_done) > 0 THEN
        DELETE FROM "SCHEMA".messages m USING unnest(p_done_partition, p_done) AS d (p, i)
        WHERE m.partition = d.p AND m.id = d.i;
    END IF;
    IF cardinality(p_tried) > 0 THEN
        UPDATE "SCHEMA".messages m SET attempts = t.n
        FROM unnest(p_tried_partition, p_tried, p_tried_attempts) AS t (p, i, n)
        WHERE m.partition = t.p AND m.id = t.i;
    END IF;
    IF cardinality(p_dead) > 0 THEN
        WITH gone AS (
            DELETE FROM "SCHEMA".messages m
            USING unnest(p_dead_partition, p_dead, p_dead_attempts, p_dead_reason) AS d (p, i, n, r)
            WHERE m.partition = d.p AND m.id = d.i RETURNING m.*, d.n, d.r
        )
        INSERT INTO "SCHEMA".dead_letters (id, partition, scope_id, message, attempts, reason)
        SELECT g.id, g.partition, g.scope_id, g.message, g.n, g.r FROM gone g;
    END IF;
    v_xmin := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    FOR v_row IN
        SELECT r.p, m.* FROM unnest(p_partition, p_mark, p_cursor, p_limit) AS r (p, mark, cur, lim)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT m.id, m.scope_id,
                    CASE WHEN m.scope_id = ANY (p_behind) THEN NULL ELSE m.message END AS message,
                    m.attempts, m.redelivered,
                    sum(CASE WHEN m.scope_id = ANY (p_behind) THEN 0 ELSE octet_length(m.message)
                        END) OVER (ORDER BY m.id ROWS BETWEEN UNBOUNDED PRECEDING
                        AND 1 PRECEDING) AS b
                FROM "SCHEMA".messages m
                WHERE m.partition = r.p AND m.id > r.mark
                    AND (m.id > r.cur OR m.id <> ALL (p_known))
                ORDER BY m.id LIMIT r.lim
            ) m WHERE coalesce(m.b, 0) < p_bytes
        ) m
        UNION ALL
        SELECT r.p, m.* FROM unnest(p_late_partition, p_late_scope_id, p_late_first, p_late_last,
            p_late_limit, p_late_bytes) AS r (p, s, first, last, lim, bytes)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT m.id, m.scope_id, m.message, m.attempts, m.redelivered,
                    sum(octet_length(m.message)) OVER (ORDER BY m.id ROWS BETWEEN
                        UNBOUNDED PRECEDING AND 1 PRECEDING) AS b
                FROM "SCHEMA".messages m
                WHERE m.partition = r.p AND m.id BETWEEN r.first AND r.last AND m.scope_id = r.s
                    AND m.id <> ALL (p_late_known)
                ORDER BY m.id LIMIT r.lim
            ) m WHERE coalesce(m.b, 0) < r.bytes
        ) m
    LOOP
        IF v_row.message IS NOT NULL AND v_row.id > v_taken THEN
            v_taken := v_row.id;
        END IF;
        partition := v_row.p;
        id := v_row.id;
        scope_id := v_row.scope_id;
        message := v_row.message;
        attempts := v_row.attempts;
        redelivered := v_row.redelivered;
        RETURN NEXT;
    END LOOP;
    partition := -1;
    id := v_xmin;
    RETURN NEXT;
    IF v_taken > p_taken OR p_asleep IS NOT NULL THEN
        UPDATE "SCHEMA".readers r SET taken = greatest(r.taken, v_taken),
            asleep = coalesce(p_asleep, r.asleep)
        WHERE r.reader = p_reader;
    END IF;
    id := coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0);
    RETURN NEXT;
END $$;

CREATE FUNCTION "SCHEMA".release(p_partitions integer[], p_suspects bigint[])
RETURNS void LANGUAGE sql AS $$
    UPDATE "SCHEMA".partitions p SET reader = NULL, suspect = r.s
    FROM unnest(p_partitions, p_suspects) AS r (p, s) WHERE p.partition = r.p
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA "SCHEMA" FROM PUBLIC;
"""

MIGRATIONS: tuple[str, ...] = (_MIGRATION_1,)
VERSION = len(MIGRATIONS)


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


def statements(schema: str, installed: int) -> list[str]:
    """Return the scripts that bring ``schema`` from version ``installed`` to `VERSION`."""
    pattern, name = re.compile(r"""(['"])SCHEMA\b(?=['"])"""), rf"\g<1>{schema}"
    return [pattern.sub(name, script) for script in MIGRATIONS[installed:]]


def fill(schema: str, partitions: int, max_size: int) -> str:
    """Return the statements that fill a new schema."""
    return f"""
        INSERT INTO "{schema}".settings VALUES ({VERSION}, {partitions:d}, {max_size:d});
        INSERT INTO "{schema}".partitions SELECT generate_series(0, {partitions:d});
    """


def grants(schema: str, role: str, *, sender: bool) -> str:
    """Return the statements that grant ``role`` the rights of a sender, or a worker or gateway."""
    name = '"' + role.replace('"', '""') + '"'
    usage = f'GRANT USAGE ON SCHEMA "{schema}" TO {name};'
    if sender:
        return f'{usage} GRANT EXECUTE ON FUNCTION "{schema}".send TO {name};'
    return f"""
        {usage}
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO {name};
        REVOKE INSERT, UPDATE, DELETE ON "{schema}".settings FROM {name};
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO {name};
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA "{schema}" TO {name};
    """
