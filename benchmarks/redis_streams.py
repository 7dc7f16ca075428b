"""Messages a second and p99 latency through Redis: ours, bare streams, Channels. Linux only.

``python redis_streams.py OURS REFERENCE [--rounds N] [--quick] [--fsync WHEN] [--no-hiredis]
[--json FILE]``: a Python with asgiref-redis, and one with asgiref 3.13.0, channels and
channels_redis; both with the same redis-py, and hiredis. Needs a ``redis-server`` (Debian and
Ubuntu: apt-get install redis-server).

Messages go from one producer process to as many consumer processes as the case says; ours keep one
application running for each scope as well, and hand each scope's messages over in order. In each
round of a case the ways are measured one after the other, each time another one first: as fast as
it goes, then latency, from when a message is due to its receipt by the application, at a rate that
all of them bear, and at one that only streams do. Prints tables; exits with 1 if a target is
missed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from options import add_json, add_rounds, make_parser
from progress import Progress
from record import Record
from redis_messages import Case, Way
from redis_results import BRISK, STEADY, Results, tables_of
from redis_stage import Setting, Stage, client_of, staged
from tables import tables_of as texts_of

#: Messages of one round as fast as it goes; Channels gets fewer, for it takes so long.
MESSAGES = {Way.OURS: 20_000, Way.BARE: 20_000, Way.CHANNELS: 500}
#: Seconds of one round at a rate, and who takes part.
PACED = {STEADY: (1.0, tuple(Way)), BRISK: (0.7, (Way.OURS, Way.BARE))}
#: Before the first round: to each scope one, or so many.
WARM_UP = {Way.OURS: 2_000, Way.BARE: 2_000, Way.CHANNELS: 100}

CASES = tuple(Case(workers, scopes) for scopes in (100, 10_000, 100_000) for workers in (1, 2, 4))
QUICK = (Case(1, 100), Case(2, 10_000))


def measure(case: Case, setting: Setting, rounds: int, progress: Progress) -> Results:
    with staged(case, setting) as stage:
        results = warmed_up(case, stage)
        for number in range(rounds):
            progress.step()
            turn = number % len(Way)
            for way in (*tuple(Way)[turn:], *tuple(Way)[:turn]):
                progress.detail(f"{case}, {way}")
                results.note(way, 0, stage.carry(way, MESSAGES[way]))
            for rate, (seconds, ways) in PACED.items():
                progress.detail(f"{case}, latency")
                for way in ways:
                    results.note(way, rate, stage.carry(way, int(rate * seconds), rate))
    return results


def warmed_up(case: Case, stage: Stage) -> Results:
    """Every scope has an application from here on; results that say what that took."""
    before = stage.memory(Way.OURS)
    first = stage.carry(Way.OURS, case.scopes)
    memory = (stage.memory(Way.OURS) - before) / case.scopes
    for way, messages in WARM_UP.items():
        stage.carry(way, messages)
    return Results(case, first.rate, memory)


def setting_from(arguments: argparse.Namespace) -> tuple[Setting, str]:
    """What is the same for all ways, and how a record names it."""
    parser = "python" if arguments.no_hiredis else "hiredis"
    ours, theirs = map(os.path.abspath, (arguments.ours, arguments.theirs))
    clients = [client_of(python, parser) for python in (ours, theirs)]
    if clients[0] != clients[1]:
        sys.exit(f"the environments must have one client of Redis, not {' and '.join(clients)}")
    version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
    number = version.partition("v=")[2].partition(" ")[0]
    pythons = {Way.OURS: ours, Way.BARE: ours, Way.CHANNELS: theirs}
    text = f"Redis {number} with appendfsync {arguments.fsync}, {clients[0]}"
    return Setting(pythons, arguments.fsync, parser), text


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("messages through Redis", "asgiref 3.13.0 and channels_redis")
    add_rounds(parser, 3)
    parser.add_argument("--quick", action="store_true", help="measure two cases instead of nine")
    parser.add_argument(
        "--fsync",
        choices=("everysec", "always", "no"),
        default="everysec",
        help="when Redis writes to its disk (default: %(default)s)",
    )
    parser.add_argument("--no-hiredis", action="store_true", help="use redis-py's own parser")
    add_json(parser)
    return parser.parse_args(arguments)


def main() -> int:
    arguments = options_from(None)
    setting, conditions = setting_from(arguments)
    load, rounds = os.getloadavg()[0], arguments.rounds
    cases = QUICK if arguments.quick else CASES
    with Progress("redis_streams", rounds * len(cases)) as progress:
        results = [measure(case, setting, rounds, progress) for case in cases]
    subject = "Messages through Redis"
    record = Record("redis_streams", subject, tables_of(results), rounds, conditions, load)
    print(f"{record.machine}, {conditions}\n\n{texts_of(record)}", flush=True)
    if arguments.json is not None:
        record.write(arguments.json)
    return 0 if record.met else 1


if __name__ == "__main__":
    sys.exit(main())
