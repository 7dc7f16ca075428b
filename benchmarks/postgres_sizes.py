"""Measure the tables of asgiref-postgres under a steady load. Linux only.

``python postgres_sizes.py [SECONDS]`` runs a server, a gateway and two workers with the current
Python, for an hour by default. At ten equal intervals it prints a row of a Markdown table: the
number of dead rows, and the sizes of the table of messages and of all tables, including indexes.
"""

import asyncio
import contextlib
import sys

import asyncpg
from postgres_echo import Troupe, Way, migrate, own_postgres

ROWS, RATE, SCOPES = 10, 1000, 10_000
SIZES = """
SELECT n_dead_tup, pg_total_relation_size(relid) / 1e6,
    (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
        WHERE relnamespace = 'asgiref'::regnamespace AND relkind = 'r') / 1e6,
    autovacuum_count
FROM pg_stat_user_tables WHERE relid = 'asgiref.messages'::regclass
"""


async def sizes(url: str) -> list[float]:
    connection = await asyncpg.connect(url)
    row = await connection.fetchrow(SIZES)
    await connection.close()
    return list(row)


def main(seconds: int) -> None:
    with own_postgres() as server:
        migrate(sys.executable, server)
        print(f"PostgreSQL {server.version}, {RATE:,} echoes a second:\n")
        print("| minutes | dead rows | messages, MB | all tables, MB | vacuums |")
        print("|---|---|---|---|---|")
        arguments = Way.OURS, sys.executable, server.url, SCOPES, server.pid
        with contextlib.closing(Troupe(*arguments)) as troupe:
            for number in range(ROWS + 1):
                if number:
                    troupe.carry(RATE * seconds // ROWS, RATE)
                row = number * seconds / ROWS / 60, *asyncio.run(sizes(server.url))
                print("| {:.0f} | {:,} | {:.1f} | {:.1f} | {:,} |".format(*row), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 3600)
