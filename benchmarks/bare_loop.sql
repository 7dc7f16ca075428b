-- The bare loop of postgres_cases.py: its tables, a step of the gateway, and a step of a worker.

CREATE TABLE IF NOT EXISTS bare_in (id bigserial PRIMARY KEY, worker integer, message bytea);
CREATE TABLE IF NOT EXISTS bare_out (id bigserial PRIMARY KEY, message bytea);
CREATE INDEX IF NOT EXISTS bare_in_worker ON bare_in (worker, id);
ALTER TABLE bare_in SET (autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE bare_out SET (autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0);

-- step of the gateway
WITH new AS (INSERT INTO bare_in (worker, message) SELECT * FROM unnest($1::int[], $2::bytea[]))
DELETE FROM bare_out WHERE id = ANY (ARRAY(SELECT id FROM bare_out ORDER BY id LIMIT $3))
RETURNING message;

-- step of a worker
WITH new AS (INSERT INTO bare_out (message) SELECT * FROM unnest($1::bytea[]))
DELETE FROM bare_in
WHERE id = ANY (ARRAY(SELECT id FROM bare_in WHERE worker = $2 ORDER BY id LIMIT $3))
RETURNING message;
