"""Compare the requests per second of servers with our WSGI adapters and with others.

Debian's ``wrk`` sends the requests over 32 keep-alive connections to one server after the other.
"""

import contextlib
import os
import re
import socket
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness import HERE, Options, rounds
from record import Measured, Table, compared_rates

CONNECTIONS = 32
CASE = f"hello, {CONNECTIONS} connections"
UVICORN = "-m uvicorn --http httptools --no-access-log --log-level critical --port PORT --factory"
GUNICORN = "-m gunicorn -k gthread --threads 40 --log-level error -b 127.0.0.1:PORT"
#: The required ratio of our requests per second to theirs.
TARGETS = {
    "here, uvicorn": 1,
    "a2wsgi, uvicorn": 3,
    "asgiref 3.13, uvicorn": 1,
    "gunicorn, gthread": 1,
}
#: The requests per second and the per cent of failed ones, for each round.
Answers = dict[str, list[tuple[float, float]]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


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
    port = free_port()
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", f"http://127.0.0.1:{port}/"]
    # Servers start in the folder of this file, which contains their sites.
    with serving(command.replace("PORT", str(port)).split(), port, HERE):
        said = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
    [asked], [rate] = re.findall(r"(\d+) requests in", said), re.findall(r"sec: +([\d.]+)", said)
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    return float(rate), 100 * failed / int(asked)


def alternate(label: str, commands: Mapping[str, str], options: Options) -> Answers:
    answers: Answers = defaultdict(list)
    for number in rounds(label, options.rounds):
        for name in commands if number % 2 else reversed(commands):
            answers[name].append(measure(commands[name], 1 if options.quick else 4))
    return answers


def under_uvicorn(options: Options) -> tuple[list[Table], str]:
    ours, theirs = map(os.path.abspath, (options.ours, options.theirs))
    commands = (
        f"{ours} {UVICORN} wsgi_cases:site",
        f"{ours} {UVICORN} wsgi_cases:site_of_a2wsgi",
        f"{theirs} {UVICORN} wsgi_cases:site",
        f"{ours} {GUNICORN} wsgi_cases:hello",
    )
    answers = alternate("wsgi_servers", dict(zip(TARGETS, commands, strict=True)), options)
    cases = [judge(name, target, answers) for name, target in TARGETS.items()]
    return [Table(CASE, "requests/s", cases)], "wrk beside the server"


def rates(answers: Answers, name: str) -> list[float]:
    return [rate for rate, _ in answers[name]]


def judge(name: str, target: float, answers: Answers) -> Measured:
    case = compared_rates(name, rates(answers, "here, uvicorn"), rates(answers, name), target)
    failed = statistics.median(failed for _, failed in answers[name])
    columns = {"requests a second": f"{case.theirs:,.0f}", "failed": f"{failed:.0f} %"}
    return replace(case, columns=columns)


def under_gunicorn(options: Options) -> Table:
    command = f"{os.path.abspath(options.ours)} {GUNICORN} asgi_to_wsgi_cases:"
    commands = {"ours": f"{command}site()", "a2wsgi": f"{command}site_of_a2wsgi()"}
    answers = alternate("asgi_to_wsgi, gunicorn", commands, options)
    case = compared_rates(CASE, rates(answers, "ours"), rates(answers, "a2wsgi"), 2)
    return Table("gunicorn, gthread", "requests/s", [case], theirs="a2wsgi 1.10")
