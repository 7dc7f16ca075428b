"""Measure the tables of asgiref-postgres under a steady load. Linux only.

``python postgres_sizes.py [--seconds N] [--rate N] [--scopes N]`` runs a server, a gateway and two
workers on the running Python. At ten equal intervals it prints a row of a Markdown table: the
number of dead rows, and the sizes of the table of messages and of all tables, including indexes.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

import asyncpg
from postgres_echo import Troupe, Way, migrate

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from command_line import make_parser  # from tools/
from own_postgres import own_postgres  # from tools/

ROWS = 10
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


def main() -> None:
    parser = make_parser("the sizes of the tables of asgiref-postgres under a steady load")
    for name, default, unit, text in (
        ("--seconds", 3600, "SECONDS", "how long"),
        ("--rate", 1000, "ECHOES", "how many a second"),
        ("--scopes", 10_000, "SCOPES", "of so many scopes"),
    ):
        parser.add_argument(
            name, type=int, default=default, metavar=unit, help=f"{text} (default: %(default)s)"
        )
    options = parser.parse_args()
    with own_postgres() as server:
        migrate(sys.executable, server)
        print(f"PostgreSQL {server.version}, {options.rate:,} echoes a second:\n")
        print("| minutes | dead rows | messages, MB | all tables, MB | vacuums |")
        print("|---|---|---|---|---|")
        troupe = Troupe(Way.OURS, sys.executable, server.url, options.scopes, server.pid)
        with contextlib.closing(troupe):
            for number in range(ROWS + 1):
                if number:
                    troupe.carry(options.rate * options.seconds // ROWS, options.rate)
                row = number * options.seconds / ROWS / 60, *asyncio.run(sizes(server.url))
                print("| {:.0f} | {:,} | {:.1f} | {:.1f} | {:,} |".format(*row), flush=True)


if __name__ == "__main__":
    main()
