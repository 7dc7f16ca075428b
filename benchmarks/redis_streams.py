"""Messages a second and p99 latency through Redis: ours, bare streams, Channels. Linux only.

``python redis_streams.py PYTHON [--rounds N] [--quick] [--json FILE]``; PYTHON has asgiref-redis,
channels and channels_redis. Needs a ``redis-server`` (Debian and Ubuntu: apt install redis-server).

Messages go from one producer process to as many consumer processes as the case says, which read
and acknowledge them; ours keep one application running for each scope as well, and hand each
scope's messages over in order. Kinds alternate in each round; a ratio is the median of the rounds'
ratios.
Latency is measured apart, at a rate that all of them bear, from the call that sends a message to
its receipt by the application. Prints a table; exits with 1 if a target is missed.
"""

import argparse
import json
import math
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import redis
from redis_cases import HANDLED, TOOK

CASES_FILE = Path(__file__).with_name("redis_cases.py")
KINDS = ("ours", "bare", "channels")
#: Messages in a measurement of the rate; Channels gets fewer, for it takes so long.
MESSAGES = {"ours": 30_000, "bare": 30_000, "channels": 3_000}
RATE = 300.0
TARGETS = {"bare": 0.6, "channels": 3.0}


@dataclass(frozen=True, slots=True)
class Case:
    workers: int
    scopes: int


@dataclass(frozen=True, slots=True)
class Result:
    """Medians: messages a second and p99 in milliseconds by kind, ratios of ours to the others."""

    case: Case
    rates: dict[str, float]
    p99: dict[str, float]
    ratios: dict[str, float]


CASES = tuple(Case(workers, scopes) for scopes in (100, 10_000, 100_000) for workers in (1, 2, 4))
QUICK = (Case(1, 100), Case(2, 10_000))


@contextmanager
def redis_server() -> Iterator[str]:
    """A server of its own, which writes to its disk every second, as is usual."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed (Debian and Ubuntu: apt install redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--dir", folder, "--save", "", "--appendonly", "yes"]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        url = f"redis://127.0.0.1:{port}"
        try:
            wait_for(url)
            yield url
        finally:
            server.terminate()
            server.wait()


def wait_for(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for _ in range(200):
            try:
                client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.05)
    sys.exit("redis-server does not start")


def measure(
    python: str, url: str, kind: str, case: Case, messages: int, rate: float
) -> tuple[float, list[float]]:
    """The seconds that all messages took, and what each took."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.xgroup_create("bench:in", "bench", "0", mkstream=True)
        words = [python, str(CASES_FILE), kind]
        numbers = [url, str(messages), str(case.scopes), str(rate)]
        consumers = [subprocess.Popen([*words, "consume", *numbers]) for _ in range(case.workers)]
        until(lambda: client.hlen(HANDLED) == case.workers)
        time.sleep(1.0)  # until they have shared the partitions
        begin = time.monotonic()
        producer = subprocess.Popen([*words, "produce", *numbers])
        until(lambda: sum(map(int, client.hvals(HANDLED))) >= messages)
        seconds = time.monotonic() - begin
        producer.wait()
        for consumer in consumers:
            consumer.send_signal(signal.SIGUSR1)
        for consumer in consumers:
            consumer.wait()
        took = [each for line in client.lrange(TOOK, 0, -1) for each in json.loads(line)]
        return seconds, took


def until(reached) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 300
    while not reached():
        if time.monotonic() > end:
            sys.exit("a measurement did not end in five minutes")
        time.sleep(0.01)


def per_second(python: str, url: str, kind: str, case: Case) -> float:
    """Messages a second, without the time that the producer takes to begin."""
    messages = MESSAGES[kind]
    little, _ = measure(python, url, kind, case, 1, 0)
    whole, _ = measure(python, url, kind, case, messages, 0)
    return messages / (whole - little)


def p99(python: str, url: str, kind: str, case: Case) -> float:
    _, took = measure(python, url, kind, case, int(3 * RATE), RATE)
    return 1000 * sorted(took)[math.ceil(0.99 * len(took)) - 1]


def judge(python: str, case: Case, rounds: int) -> Result:
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with redis_server() as url:
        for number in range(rounds):
            for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
                rates[kind].append(per_second(python, url, kind, case))
        latencies = {kind: p99(python, url, kind, case) for kind in KINDS}
    ratios = {
        other: statistics.median(
            ours / theirs for ours, theirs in zip(rates["ours"], rates[other], strict=True)
        )
        for other in TARGETS
    }
    medians = {kind: statistics.median(each) for kind, each in rates.items()}
    return Result(case, medians, latencies, ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two cases instead of nine")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    heads = ("workers", "scopes", *KINDS, "to bare", "to Channels", "p99 of the three")
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|", flush=True)
    results = []
    for case in QUICK if options.quick else CASES:
        result = judge(options.python, case, options.rounds)
        results.append(result)
        rates = " | ".join(f"{result.rates[kind]:,.0f}/s" for kind in KINDS)
        ratios = " | ".join(f"{result.ratios[other]:.2f}" for other in TARGETS)
        latencies = ", ".join(f"{result.p99[kind]:.1f}" for kind in KINDS)
        print(
            f"| {case.workers} | {case.scopes:,} | {rates} | {ratios} | {latencies} ms |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1))
    missed = [
        f"{result.case}: {result.ratios[other]:.2f} of {other}, {target} wanted"
        for result in results
        for other, target in TARGETS.items()
        if result.ratios[other] < target
    ]
    print("\n".join(missed))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
