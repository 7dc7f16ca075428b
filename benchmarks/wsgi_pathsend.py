"""Measure the gain from sending files by path: ``python wsgi_pathsend.py``.

Needs Granian and the components in the running environment, and curl. Prints one line for each
size: the median milliseconds of 21 downloads with `send_files_by_path` off and on, over one
connection.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import HERE
from wsgi_servers import free_port, serving

from asgiref.wsgi import WsgiToAsgi

ROUNDS = 21
GRANIAN = f"{sys.executable} -m granian --interface asgi --no-ws --no-log --port"
SIZES = 100_000, 1_000_000, 10_000_000, 100_000_000


def site(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))  # the server closes it


off, on = WsgiToAsgi(site), WsgiToAsgi(site, send_files_by_path=True)


def measure(option: str, file: Path) -> float:
    port = free_port()
    downloads = ["--output", os.devnull, f"http://127.0.0.1:{port}{file}"] * ROUNDS
    curl = ["curl", "--fail", "--silent", "--write-out", "%{time_total}\n", *downloads]
    with serving([*GRANIAN.split(), str(port), f"wsgi_pathsend:{option}"], port, HERE):
        said = subprocess.run(curl, check=True, capture_output=True, text=True).stdout
    return 1000 * statistics.median(map(float, said.split()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            file = Path(folder, str(size))
            file.write_bytes(b"x" * size)
            without, by_path = measure("off", file), measure("on", file)
            print(f"{size:>11,} bytes: {without:8.2f} ms off, {by_path:8.2f} ms on", flush=True)


if __name__ == "__main__":
    main()
