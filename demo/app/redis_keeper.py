"""Between the demo and its ``redis-server``: ``python -m app.redis_keeper PROGRAM FOLDER``.

Runs ``PROGRAM FOLDER/redis.conf`` until standard input ends, then ends it and deletes the folder.
The demo holds the other end, and so nothing is left however the demo ends, ``kill -9`` included. (A
Redis does not look at its standard input, and only Linux can tell a process that its parent died.)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading


def main(program: str, folder: str) -> int:
    """Keep the server; return its exit code."""
    try:
        server = subprocess.Popen([program, f"{folder}/redis.conf"], stdin=subprocess.DEVNULL)

        def end_with_parent() -> None:
            os.read(0, 1)
            server.terminate()

        threading.Thread(target=end_with_parent, daemon=True).start()
        return server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
