"""Measure the gain of sending files by path: ``python wsgi_pathsend.py [--rounds N]``.

Needs Granian and the components in the running environment. Prints one line for each size: the
median milliseconds of a download with `send_files_by_path` off and on, over one connection.
"""

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from options import add_rounds, make_plain_parser
from wsgi_servers import free_port, wait_for

SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000, "100 MB": 100_000_000}
SITE = """
import os
from asgiref.wsgi import WsgiToAsgi

def site(environ, start_response):
    path = os.path.join(os.path.dirname(__file__), environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))

off, on = WsgiToAsgi(site), WsgiToAsgi(site, send_files_by_path=True)
"""


def download(connection: http.client.HTTPConnection, size: int) -> float:
    begin = time.perf_counter()
    connection.request("GET", f"/{size}")
    answer = connection.getresponse()
    received = 0
    while block := answer.read(1 << 20):
        received += len(block)
    assert (answer.status, received) == (200, size)
    return (time.perf_counter() - begin) * 1000


def measure(folder: Path, option: str, rounds: int) -> dict[int, float]:
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--no-ws", "--no-log"]
    server = subprocess.Popen(
        [*command, "--port", str(port), f"site_of_files:{option}"], cwd=folder
    )
    try:
        wait_for(port)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        return {
            size: statistics.median(download(connection, size) for _ in range(rounds))
            for size in SIZES.values()
        }
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = make_plain_parser("what sending files by their path saves")
    add_rounds(parser, 21)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site_of_files.py").write_text(SITE)
        for size in SIZES.values():
            (folder / str(size)).write_bytes(b"x" * size)
        off, on = (measure(folder, option, rounds) for option in ("off", "on"))
    for name, size in SIZES.items():
        print(f"{name:>7}: {off[size]:8.2f} ms off, {on[size]:8.2f} ms on")


if __name__ == "__main__":
    main()
