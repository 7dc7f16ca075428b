"""Compare the requests per second of servers with `WsgiToAsgi` and with other adapters.

``python wsgi_servers.py OURS REFERENCE [--rounds N] [--seconds S] [--json FILE]``: OURS is the
Python of an environment with the components of this repository, uvicorn, httptools, a2wsgi and
gunicorn; REFERENCE is one with asgiref 3.13.0, uvicorn and httptools. Needs Debian's ``wrk``, which
uses 32 keep-alive connections. Prints a table; exits with 1 if a target is missed.
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from options import add_json, add_rounds, make_parser
from progress import Progress
from record import Kind, Measured, Record, Table
from tables import tables_of

CONNECTIONS = 32


@dataclass
class Contender:
    name: str
    command: list[str]
    #: The required ratio of our requests per second to theirs.
    target: float
    rates: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)


def uvicorn(python: str, site: str) -> list[str]:
    options = ["--http", "httptools", "--no-access-log", "--log-level", "critical"]
    return [python, "-m", "uvicorn", "--factory", f"wsgi_sites:{site}", *options, "--port"]


def contenders(ours: str, theirs: str) -> list[Contender]:
    gunicorn = [ours, "-m", "gunicorn", "-k", "gthread", "--threads", "40", "--log-level", "error"]
    return [
        Contender("here, uvicorn", uvicorn(ours, "wsgi_to_asgi"), 1),
        Contender("a2wsgi, uvicorn", uvicorn(ours, "a2wsgi"), 3),
        Contender("asgiref 3.13, uvicorn", uvicorn(theirs, "wsgi_to_asgi"), 1),
        Contender("gunicorn, gthread", [*gunicorn, "wsgi_sites:hello", "-b"], 1),
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def measure(contender: Contender, seconds: int) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}" if "gunicorn" in contender.command else str(port)
    server = subprocess.Popen([*contender.command, address], cwd=Path(__file__).parent)
    try:
        wait_for(port)
        report = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", f"http://127.0.0.1:{port}/"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    finally:
        server.terminate()
        server.wait()
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    asked = re.search(r"(\d+) requests in", report)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    if rate is None or asked is None:
        raise SystemExit(f"{contender.name}: wrk said\n{report}")
    contender.rates.append(float(rate[1]))
    contender.failed.append(100 * int(failed[1]) / int(asked[1]) if failed else 0)


def judge(contender: Contender, ours: Contender) -> Measured:
    ratios = [a / b for a, b in zip(ours.rates, contender.rates, strict=True)]
    met = statistics.median(ratios) >= contender.target
    rates = statistics.median(ours.rates), statistics.median(contender.rates)
    failed = f"{statistics.median(contender.failed):.0f} %"
    return Measured(contender.name, *rates, ratios, contender.target, met, note=failed)


def main() -> int:
    parser = make_parser("requests a second")
    add_rounds(parser, 5)
    parser.add_argument(
        "--seconds",
        type=int,
        default=4,
        metavar="SECONDS",
        help="how long each server is asked in a round (default: %(default)s)",
    )
    add_json(parser)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    load, rounds = os.getloadavg()[0], arguments.rounds
    # The servers start in the folder of this file, which contains their sites.
    pythons = map(os.path.abspath, (arguments.ours, arguments.theirs))
    everybody = contenders(*pythons)
    with Progress("wsgi_servers", rounds) as progress:
        for number in range(rounds):
            progress.step()
            for contender in everybody if number % 2 else reversed(everybody):
                progress.detail(contender.name)
                measure(contender, arguments.seconds)
    cases = [judge(contender, everybody[0]) for contender in everybody]
    table = Table(f"hello, {CONNECTIONS} connections", Kind.RATE, "requests/s", cases)
    subject = "`WsgiToAsgi` under a server"
    record = Record("wsgi_servers", subject, [table], rounds, "wrk beside the server", load)
    print(f"{record.machine}\n\n{tables_of(record)}", flush=True)
    if arguments.json is not None:
        record.write(arguments.json)
    return 0 if record.met else 1


if __name__ == "__main__":
    sys.exit(main())
