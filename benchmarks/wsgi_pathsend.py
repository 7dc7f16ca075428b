"""Measure the gain of sending files by path: ``python wsgi_pathsend.py``.

Needs Granian and the components in the running environment. Prints one line for each size: the
median milliseconds of 21 downloads with `send_files_by_path` off and on, over one connection.
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

ROUNDS = 21
GRANIAN = f"{sys.executable} -m granian --interface asgi --no-ws --no-log --port"
SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000, "100 MB": 100_000_000}


def site(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))  # the server closes it


off, on = WsgiToAsgi(site), WsgiToAsgi(site, send_files_by_path=True)


def download(connection: http.client.HTTPConnection, file: Path) -> float:
    begin = time.perf_counter()
    connection.request("GET", str(file))
    answer = connection.getresponse()
    received = sum(map(len, iter(lambda: answer.read(1 << 20), b"")))
    assert (answer.status, received) == (200, file.stat().st_size)
    return (time.perf_counter() - begin) * 1000


def measure(option: str, files: list[Path]) -> list[float]:
    port = free_port()
    with serving([*GRANIAN.split(), str(port), f"wsgi_pathsend:{option}"], port, HERE):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        downloads = ([download(connection, file) for _ in range(ROUNDS)] for file in files)
        return list(map(statistics.median, downloads))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(size)) for size in SIZES.values()]
        for file in files:
            file.write_bytes(b"x" * int(file.name))
        figures = (measure(option, files) for option in ("off", "on"))
        for name, without, by_path in zip(SIZES, *figures, strict=True):
            print(f"{name:>7}: {without:8.2f} ms off, {by_path:8.2f} ms on")


if __name__ == "__main__":
    main()
