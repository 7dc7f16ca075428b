"""Compare the requests per second of servers with our WSGI adapters and with others.

Debian's ``wrk`` sends the requests over 32 keep-alive connections to one server after another.
"""

import contextlib
import os
import re
import socket
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness import BENCHMARKS, HERE, Options, turns
from record import Table, compared_rates

CONNECTIONS = 32


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, folder: Path) -> Iterator[int]:
    """Run a server during the ``with`` block; yield its process id once its port is open."""
    end = time.monotonic() + 20
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            while not is_open(port):
                if time.monotonic() > end or server.poll() is not None:
                    raise RuntimeError(f"{command[0]} does not listen on port {port}")
                time.sleep(0.05)
            yield server.pid
        finally:
            server.terminate()


def measure(command: str, seconds: int, **pythons: str) -> tuple[float, float]:
    """Return the requests per second of a server, and the percentage that failed."""
    port = free_port()
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", f"http://127.0.0.1:{port}/"]
    # Servers start in the folder of this file, which contains their sites.
    with serving(command.format(port=port, **pythons).split(), port, HERE):
        said = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
    [asked] = re.findall(r"(\d+) requests in", said)
    [rate] = re.findall(r"Requests/sec: +(\S+)", said)
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    if asked == "0":
        raise RuntimeError(f"{command}: no request was answered within {seconds} seconds")
    return float(rate), 100 * failed / int(asked)


def contest(name: str, options: Options) -> Table:
    """Compare the first contender of a benchmark with each of them."""
    pythons = {side: os.path.abspath(getattr(options, side)) for side in ("ours", "theirs")}
    contenders, seconds = BENCHMARKS[name]["contenders"], 1 if options.quick else 4
    answers = defaultdict[str, list[tuple[float, float]]](list)
    for names in turns(f"{name}, servers", options.rounds, contenders):
        for contender in names:
            command = contenders[contender]["command"]
            answers[contender].append(measure(command, seconds, **pythons))
    cases, (ours, _) = [], zip(*answers[next(iter(contenders))], strict=True)
    for contender, given in contenders.items():
        rates, failed = zip(*answers[contender], strict=True)
        case = compared_rates(contender, ours, rates, given["target"])
        share = f"{statistics.median(failed):.0f} %"
        columns = {"requests a second": f"{case.theirs:,.0f}", "failed": share}
        cases.append(replace(case, columns=columns))
    return Table(f"hello, {CONNECTIONS} connections", "requests/s", cases)
