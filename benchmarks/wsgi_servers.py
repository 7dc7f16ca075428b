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

from harness import HERE, Options, turns
from record import Measured, Table, compared_rates

CONNECTIONS = 32
CASE = f"hello, {CONNECTIONS} connections"
UVICORN = "-m uvicorn --http httptools --no-access-log --log-level critical --port PORT --factory"
GUNICORN = "-m gunicorn -k gthread --threads 40 --log-level error -b 127.0.0.1:PORT"


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


def measure(command: str, seconds: int) -> tuple[float, float]:
    """Return the requests per second, and the per cent that failed."""
    port = free_port()
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", f"http://127.0.0.1:{port}/"]
    # Servers start in the folder of this file, which contains their sites.
    with serving(command.replace("PORT", str(port)).split(), port, HERE):
        said = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
    [asked] = re.findall(r"(\d+) requests in", said)
    [rate] = re.findall(r"Requests/sec: +(\S+)", said)
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    if asked == "0":
        raise RuntimeError(f"{command}: no request was answered within {seconds} seconds")
    return float(rate), 100 * failed / int(asked)


def contest(label: str, contenders: dict[str, tuple[str, int]], options: Options) -> list[Measured]:
    """Compare the first of some commands with all of them; each has a target."""
    answers = defaultdict[str, list[tuple[float, float]]](list)
    for names in turns(label, options.rounds, contenders):
        for name in names:
            answers[name].append(measure(contenders[name][0], 1 if options.quick else 4))
    rates = {name: [rate for rate, _ in answers[name]] for name in contenders}
    cases = []
    for name, (_, target) in contenders.items():
        case = compared_rates(name, rates[next(iter(contenders))], rates[name], target)
        failed = statistics.median(failed for _, failed in answers[name])
        columns = {"requests a second": f"{case.theirs:,.0f}", "failed": f"{failed:.0f} %"}
        cases.append(replace(case, columns=columns))
    return cases


def under_uvicorn(options: Options) -> tuple[list[Table], str]:
    ours, theirs = map(os.path.abspath, (options.ours, options.theirs))
    contenders = {
        "here, uvicorn": (f"{ours} {UVICORN} wsgi_cases:of_ours", 1),
        "a2wsgi, uvicorn": (f"{ours} {UVICORN} wsgi_cases:of_a2wsgi", 3),
        "asgiref 3.13, uvicorn": (f"{theirs} {UVICORN} wsgi_cases:of_ours", 1),
        "gunicorn, gthread": (f"{ours} {GUNICORN} wsgi_cases:hello", 1),
    }
    cases = contest("wsgi_servers", contenders, options)
    return [Table(CASE, "requests/s", cases)], "wrk beside the server"


def under_gunicorn(options: Options) -> Table:
    command = f"{os.path.abspath(options.ours)} {GUNICORN} asgi_to_wsgi_cases:site"
    contenders = {"here": (command, 1), "a2wsgi": (f"{command}_of_a2wsgi", 2)}
    [_, case] = contest("asgi_to_wsgi, gunicorn", contenders, options)
    cases = [replace(case, name=CASE, columns={})]
    return Table("gunicorn, gthread", "requests/s", cases, theirs="a2wsgi 1.10")
