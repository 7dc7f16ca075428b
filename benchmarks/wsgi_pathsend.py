"""Measure the gain of sending files by path: ``python wsgi_pathsend.py [--rounds N]``.

Needs Granian and the components in the running environment. Prints one line for each size: the
median milliseconds of a download with `send_files_by_path` off and on, over one connection.
"""

import http.client
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import HERE
from wsgi_servers import free_port, serving

from asgiref.wsgi import WsgiToAsgi

sys.path.append(str(HERE.parent / "tools"))

from command_line import make_parser  # from tools/

SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000, "100 MB": 100_000_000}


def site(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))  # the server closes it


off, on = WsgiToAsgi(site), WsgiToAsgi(site, send_files_by_path=True)


def download(connection: http.client.HTTPConnection, file: Path) -> float:
    begin = time.perf_counter()
    connection.request("GET", str(file))
    answer, received = connection.getresponse(), 0
    while block := answer.read(1 << 20):
        received += len(block)
    assert (answer.status, received) == (200, file.stat().st_size)
    return (time.perf_counter() - begin) * 1000


def measure(option: str, files: list[Path], rounds: int) -> list[float]:
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--no-ws", "--no-log"]
    with serving([*command, "--port", str(port), f"wsgi_pathsend:{option}"], port, HERE):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        return [
            statistics.median(download(connection, file) for _ in range(rounds)) for file in files
        ]


def main() -> None:
    parser = make_parser("how much time sending files by their path saves")
    parser.add_argument(
        "--rounds", type=int, default=21, metavar="ROUNDS", help="default: %(default)s downloads"
    )
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(size)) for size in SIZES.values()]
        for file in files:
            file.write_bytes(b"x" * int(file.name))
        figures = (measure(option, files, rounds) for option in ("off", "on"))
        for name, without, by_path in zip(SIZES, *figures, strict=True):
            print(f"{name:>7}: {without:8.2f} ms off, {by_path:8.2f} ms on")


if __name__ == "__main__":
    main()
