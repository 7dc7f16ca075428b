"""Measure the gain of sending files by path: ``python wsgi_pathsend.py``.

Needs Granian, wrk and the components in the running environment. Prints one line for each size: the
mean milliseconds of a download over one connection, with `send_files_by_path` off and on.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from wsgi_servers import measure

from asgiref.wsgi import WsgiToAsgi

GRANIAN = f"{sys.executable} -m granian --interface asgi --no-ws --no-log --port {{port}}"
SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000, "100 MB": 100_000_000}


def site(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Length", str(os.path.getsize(path)))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))  # the server closes it


off, on = WsgiToAsgi(site), WsgiToAsgi(site, send_files_by_path=True)


def download(option: str, file: Path) -> float:
    rate, failed = measure(f"{GRANIAN} wsgi_pathsend:{option}", 2, path=str(file), connections=1)
    assert not failed
    return 1000 / rate


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            file = Path(folder, str(size))
            file.write_bytes(b"x" * size)
            without, by_path = download("off", file), download("on", file)
            print(f"{name:>7}: {without:8.2f} ms off, {by_path:8.2f} ms on", flush=True)


if __name__ == "__main__":
    main()
