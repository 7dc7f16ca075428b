"""Compare the speed of `AsgiToWsgi` and a2wsgi, in process and under gunicorn's threads.

``python asgi_to_wsgi.py OURS REFERENCE [--rounds N] [--seconds S] [--idle] [--json FILE]``: OURS is
the Python of an environment with the components of this repository, a2wsgi and gunicorn. REFERENCE
is not used, because asgiref 3.13 has no such adapter. Needs Debian's ``wrk``. Prints two tables;
exits with 1 if a target is missed.
"""

import os
import statistics
import sys
from contextlib import closing
from pathlib import Path

from comparison import Environment, busy_core
from options import add_json, add_rounds, make_parser
from progress import Progress
from record import Kind, Measured, Record, Table
from tables import tables_of
from wsgi_servers import CONNECTIONS, Contender
from wsgi_servers import measure as measure_server

THEIRS = "a2wsgi 1.10"
#: The number of calls of each case in a round, and the target: how many times as fast as a2wsgi.
CASES = {
    "hello": (300, 2),
    "POST 1 kB": (300, 1),
    "50 at once": (500, 2),
    "1000 chunks of 10 bytes": (3, 5),
    "10 MB upload": (3, 1),
    "10 MB download": (3, 1),
}


def judge(
    name: str, ours: list[float], theirs: list[float], ratios: list[float], target: float
) -> Measured:
    medians = statistics.median(ours), statistics.median(theirs)
    return Measured(name, *medians, ratios, target, statistics.median(ratios) >= target)


def in_process(python: str, rounds: int) -> Table:
    """Time a request of each case, alternately with ours and with a2wsgi."""
    figures: dict[str, list[float]] = {}
    with (
        closing(Environment(python, Path(__file__).with_name("asgi_to_wsgi_cases.py"))) as process,
        Progress("asgi_to_wsgi, in process", rounds) as progress,
    ):
        for number in range(rounds):
            progress.step()
            for name, (calls, _) in CASES.items():
                progress.detail(name)
                turns = [name, f"a2wsgi, {name}"]
                for case in turns if number % 2 else reversed(turns):
                    figures.setdefault(case, []).append(process.measure(case, calls))
    cases = []
    for name, (_, target) in CASES.items():
        ours, theirs = figures[name], figures[f"a2wsgi, {name}"]
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        cases.append(judge(name, ours, theirs, ratios, target))
    return Table("one request", Kind.COST, "µs", cases, theirs=THEIRS)


def under_gunicorn(python: str, rounds: int, seconds: int) -> Table:
    """Count the requests per second that gunicorn answers with each adapter."""
    gunicorn = [python, "-m", "gunicorn", "-k", "gthread", "--threads", "40", "--log-level"]
    contenders = [
        Contender(name, [*gunicorn, "error", f"asgi_to_wsgi_sites:{name}()", "-b"], 2)
        for name in ("asgi_to_wsgi", "a2wsgi")
    ]
    with Progress("asgi_to_wsgi, gunicorn", rounds) as progress:
        for number in range(rounds):
            progress.step()
            for contender in contenders if number % 2 else reversed(contenders):
                progress.detail(contender.name)
                measure_server(contender, seconds)
    ours, theirs = contenders
    ratios = [a / b for a, b in zip(ours.rates, theirs.rates, strict=True)]
    case = judge(f"hello, {CONNECTIONS} connections", ours.rates, theirs.rates, ratios, 2)
    return Table("gunicorn, gthread", Kind.THROUGHPUT, "requests/s", [case], theirs=THEIRS)


def main() -> int:
    parser = make_parser("AsgiToWsgi")
    add_rounds(parser, 15)
    parser.add_argument(
        "--seconds",
        type=int,
        default=4,
        metavar="SECONDS",
        help="how long each server is asked in a round (default: %(default)s)",
    )
    parser.add_argument("--idle", action="store_true", help="do not keep one core busy")
    add_json(parser)
    arguments = parser.parse_args()
    load, python = os.getloadavg()[0], os.path.abspath(arguments.ours)
    with busy_core(not arguments.idle) as conditions:
        table = in_process(python, arguments.rounds)
    tables = [table, under_gunicorn(python, min(arguments.rounds, 5), arguments.seconds)]
    conditions += " in process; wrk beside the server"
    record = Record(
        "asgi_to_wsgi",
        "`AsgiToWsgi` beside a2wsgi",
        tables,
        arguments.rounds,
        conditions,
        load,
    )
    print(f"{record.machine}, {conditions}\n\n{tables_of(record)}", flush=True)
    if arguments.json is not None:
        record.write(arguments.json)
    return 0 if record.met else 1


if __name__ == "__main__":
    sys.exit(main())
