"""Measure the tables of asgiref-postgres under a steady load. Linux only.

``python postgres_sizes.py OURS [--seconds N] [--rate N] [--scopes N]`` runs its own server, a
gateway and two workers. At ten equal intervals it prints a row of a Markdown table: the number of
dead rows, and the sizes of the table of messages and of all tables, including indexes.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from options import make_plain_parser
from postgres_cases import Order
from postgres_echo import Troupe, Way, migrate

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from own_postgres import OwnPostgres, own_postgres  # from tools/

ROWS = 10
PROGRAM = """
import asyncio, asyncpg, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    row = await connection.fetchrow('''
        SELECT (SELECT n_dead_tup FROM pg_stat_user_tables
                WHERE relid = 'asgiref.messages'::regclass),
            pg_total_relation_size('asgiref.messages') / 1e6,
            (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
                WHERE relnamespace = 'asgiref'::regnamespace AND relkind = 'r') / 1e6,
            (SELECT autovacuum_count FROM pg_stat_user_tables
                WHERE relid = 'asgiref.messages'::regclass)
    ''')
    print('| {:,} | {:.1f} | {:.1f} | {:,} |'.format(*row))
asyncio.run(main())
"""


def row(python: str, server: OwnPostgres) -> str:
    done = subprocess.run(
        [python, "-c", PROGRAM, server.url], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_plain_parser("the sizes of the tables of asgiref-postgres under a steady load")
    parser.add_argument("ours", help="a Python with asgiref-postgres")
    for name, default, unit, text in (
        ("--seconds", 3600, "SECONDS", "how long"),
        ("--rate", 1000, "ECHOES", "how many a second"),
        ("--scopes", 10_000, "SCOPES", "of so many scopes"),
    ):
        parser.add_argument(
            name, type=int, default=default, metavar=unit, help=f"{text} (default: %(default)s)"
        )
    return parser.parse_args(arguments)


def main() -> int:
    options = options_from(None)
    with own_postgres() as server:
        migrate(options.ours, server)
        troupe = Troupe(Way.OURS, options.ours, server.url, options.scopes, server.pid)
        print(f"PostgreSQL {server.version}, {options.rate:,} echoes a second:\n")
        print("| minutes | dead rows | messages, MB | all tables, MB | vacuums |")
        print("|---|---|---|---|---|", flush=True)
        try:
            for number in range(ROWS + 1):
                if number:
                    messages = options.rate * options.seconds // ROWS
                    troupe.carry(Order(messages, options.rate))
                minutes = number * options.seconds / ROWS / 60
                print(f"| {minutes:.0f} {row(options.ours, server)}", flush=True)
        finally:
            troupe.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
